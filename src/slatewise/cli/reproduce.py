"""slatewise reproduce PAPER."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from slatewise.cli._console import errors, progress
from slatewise.cli._interrupts import command_again

HELP = """Repeat a paper's experiment and print its table: published | ours | 95 % interval.

The experiment consists of cells. Finished ones are kept below --cache, so the same command goes on where it was
stopped; a cell is computed again when the code behind it, torch or numpy has changed. Exit code 0 means that the
experiment ran, whichever way its checks fell.

Papers: {papers}.

Example: slatewise reproduce youtube --quick --json youtube.json
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    from pkgutil import iter_modules

    # by file name, without importing what the papers need
    folder = Path(__file__).parent.parent / "reproduce"
    papers = sorted(module.name.replace("_", "-") for module in iter_modules([str(folder)]) if module.name[0] != "_")
    app.command("reproduce", help=HELP.format(papers=", ".join(papers)))(reproduce)


def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="Which one.", show_default=False)],
    quick: Annotated[bool, typer.Option("--quick", help="The short form, at most five minutes.")] = False,
    seed_base: Annotated[int, typer.Option(min=0, help="Moves every seed.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer here too.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the page; default runs/reproduce/PAPER.")] = None,
    cache: Annotated[Path, typer.Option(help="Where finished cells are kept.")] = Path("runs/reproduce/cells"),
    processes: Annotated[int, typer.Option(min=1, help="Cells computed at the same time.")] = 2,
) -> None:
    """Reproduce; see HELP."""
    from slatewise import config as configs
    from slatewise.files import atomic_file
    from slatewise.machine import commit
    from slatewise.reproduce import reproduce as run
    from slatewise.reproduce import story_json, story_text
    from slatewise.reproduce._page import write_images, write_page

    name = paper.replace("-", "_")
    module = configs.find("reproduce", name)
    start, at = time.monotonic(), commit()
    state = "No cell was finished"

    def stop_message() -> str:
        return f"Interrupted. {state}. Go on: {command_again()}"

    with progress(stopped=stop_message) as work:
        stage = work.stage(paper, unit="cell")

        def on_cell(cell: str, done: int, total: int) -> None:
            nonlocal state
            state = f"{done} of {total} cells are finished and kept in {cache / name}"
            stage.report(done, total, note=cell)

        story, cells = run(
            name, folder=cache / name, quick=quick, seed_base=seed_base, processes=processes, on_cell=on_cell
        )
    seconds = time.monotonic() - start
    print(story_text(story, cells))
    folder = out or Path("runs/reproduce") / paper
    form = "quick" if quick else "full"
    facts = f"{form} form, seeds from {seed_base}, commit {at or 'unknown'}, {seconds:.0f} s, {cells}"
    page = folder / f"{form}-{seed_base}.html"
    write_page(page, story, title=f"{paper}: {module.TITLE}", facts=facts)
    write_images(folder / f"{form}-{seed_base}", story)
    if json_file is not None:
        value = story_json(story, cells, paper=paper, commit=at, seed=seed_base, seconds=seconds)
        with atomic_file(json_file) as temporary:
            temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    errors().print(f"{page}: the same with figures ({facts})")
