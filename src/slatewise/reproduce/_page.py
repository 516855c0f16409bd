"""A story as one self-contained HTML page: checks, table, figures; it loads nothing from anywhere."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from slatewise.files import atomic_file
from slatewise.report.figures import COLOURS, DASHES, number
from slatewise.reproduce._story import Curve, Figure, Story

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #8884; }
td.n, th.n { text-align: right; }
.fails { color: #d0632a; font-weight: 600; }
figure { margin: 2rem 0; overflow-x: auto; }
figcaption { font-weight: 600; }
"""
ABREAST = 6
"""As many names stand next to each other; more, below each other."""
SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const ink = dark ? "#e6e6e6" : "#222222", grid = dark ? "#444444" : "#dddddd";
for (const place of document.querySelectorAll("[data-figure]")) {
  const {data, layout} = JSON.parse(place.dataset.figure);
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = {color: ink};
  for (const axis of ["xaxis", "yaxis"]) layout[axis].gridcolor = grid;
  Plotly.newPlot(place, data, layout, {displayModeBar: false, responsive: true});
}
"""


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
    checks = "".join(
        f'<li><span class="{"holds" if check.holds else "fails"}">{"holds" if check.holds else "fails"}</span>: '
        f"{escape(check.name)} — {escape(check.figure)}</li>"
        for check in story.checks
    )
    rows = "".join(
        f"<tr><td>{escape(row.name)}</td><td>{escape(row.metric)}</td>"
        + "".join(
            f'<td class="n">{number(math.nan if value is None else value)}</td>'
            for value in (row.published, row.ours, row.low, row.high)
        )
        + "</tr>"
        for row in story.rows
    )
    figures = "".join(
        f"<figure><figcaption>{escape(figure.title)}</figcaption>"
        f'<div data-figure="{escape(json.dumps(drawn(figure)), quote=True)}"></div></figure>'
        for figure in story.figures
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in story.notes)
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><p>{escape(facts)}</p>"
        f"<h2>Checks</h2><ul>{checks}</ul>{notes}<h2>Figures</h2>{figures}<h2>Table</h2>"
        '<table><thead><tr><th></th><th>metric</th><th class="n">published</th><th class="n">ours</th>'
        f'<th class="n">low</th><th class="n">high</th></tr></thead><tbody>{rows}</tbody></table>'
        f"<script>{get_plotlyjs()}</script><script>{SCRIPT}</script></body></html>\n"
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_images(folder: Path, story: Story) -> list[Path]:
    """The figures as PNG, where kaleido is installed; else none."""
    try:
        import kaleido  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        return []
    import plotly.graph_objects as go

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in story.figures:
        path = folder / f"{figure.name}.png"
        with atomic_file(path) as temporary:
            plot = go.Figure(**drawn(figure))
            temporary.write_bytes(plot.to_image(format="png", width=900, height=plot.layout.height + 40, scale=2))
        written.append(path)
    return written


def drawn(figure: Figure) -> dict[str, Any]:
    """Data and layout for plotly; many names stand below each other, so that all of them can be read."""
    turned = len(figure.labels) > ABREAST
    data = [_line(curve, index, dots=bool(figure.labels), turned=turned) for index, curve in enumerate(figure.curves)]
    x: dict[str, Any] = {"title": {"text": figure.x}, "automargin": True, "zeroline": False}
    if figure.labels:
        x |= {"tickvals": list(range(len(figure.labels))), "ticktext": list(figure.labels)}
    elif figure.log_x:
        x |= {"type": "log"}
    y: dict[str, Any] = {"title": {"text": figure.y}, "automargin": True, "zeroline": bool(figure.labels)}
    if figure.log_y:
        y |= {"type": "log"}
    layout = {
        "height": 120 + 24 * len(figure.labels) if turned else 420,
        "margin": {"l": 60, "r": 12, "t": 12, "b": 48},
        "xaxis": y if turned else x,
        "yaxis": x | {"autorange": "reversed"} if turned else y,
        "showlegend": len(figure.curves) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }
    return {"data": data, "layout": layout}


def _line(curve: Curve, index: int, *, dots: bool, turned: bool) -> dict[str, Any]:
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
    # dots of several curves over the same name stand side by side
    places = [value + 0.12 * index for value in curve.x] if dots else list(curve.x)
    values = [value if math.isfinite(value) else None for value in curve.y]
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers" if dots else "lines+markers" if len(curve.x) <= 20 else "lines",
        "name": curve.name,
        "x": values if turned else places,
        "y": places if turned else values,
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"color": colour, "size": 7},
    }
    if curve.half:
        bars = [value if math.isfinite(value) else 0.0 for value in curve.half]
        line["error_x" if turned else "error_y"] = {"type": "data", "array": bars, "thickness": 1.2, "width": 3}
    return line
