"""slatewise data export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slatewise.cli._console import JsonFlag, answer, progress
from slatewise.cli.data import data
from slatewise.wording import count_of

HELP = """Write a prepared data set as one table: Parquet or CSV, one row per shown or used item.

The columns are those that `slatewise data import` reads: the table imports to the same log.

Example: slatewise data export data/shop --out shop.parquet
"""


@data.command("export", help=HELP)
def export_log(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Prepared data set.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write: NAME.parquet or NAME.csv.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Export; see HELP."""
    from slatewise.data import prepared
    from slatewise.data.exporting import export

    log = prepared.load(dataset)
    with progress() as work:
        stage = work.stage("writing", unit="event", total=log.interactions.num_events)
        notes = export(log, out, overwrite=overwrite, on_events=stage.report)
    rows = log.interactions.num_rows
    answer(
        {"out": str(out), "rows": rows, "notes": list(notes)},
        as_json=as_json,
        text="\n".join([f"{out}: {count_of(rows, 'row')}", *(f"Note: {note}" for note in notes)]),
    )
