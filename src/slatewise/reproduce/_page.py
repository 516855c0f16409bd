"""A story as a page of its own, and its charts as images."""

from __future__ import annotations

from pathlib import Path

from slatewise.files import atomic_file
from slatewise.report import Experiment, plots, write
from slatewise.reproduce._story import HEAD, Story, story_lines


def write_page(path: Path, story: Story, *, title: str, facts: str) -> None:
    """Write the page, whole or not at all.

    Args:
        path: .html file.
        story: what to show.
        title: head of the page.
        facts: one line below it: commit, seeds, time.

    Raises:
        SlatewiseError: the folder cannot be written.
    """
    page = Experiment(
        title=title,
        facts=facts,
        checks=story.checks,
        notes=story.notes,
        charts=story.charts,
        headings=HEAD,
        rows=story_lines(story),
    )
    write(path, page)


def write_images(folder: Path, story: Story) -> list[Path]:
    """Write the charts as PNG where kaleido is installed; else none."""
    try:
        import kaleido  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        return []
    import plotly.graph_objects as go

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in story.charts:
        path = folder / f"{chart.name}.png"
        with atomic_file(path) as temporary:
            drawing = plots.lines(chart.name, chart)
            plot = go.Figure(data=drawing.data, layout=drawing.layout | {"showlegend": bool(drawing.legend)})
            temporary.write_bytes(plot.to_image(format="png", width=900, height=plot.layout.height + 40, scale=2))
        written.append(path)
    return written
