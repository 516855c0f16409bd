"""slatewise data append."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slatewise.cli._console import JsonFlag, answer
from slatewise.cli.data import (
    Columns,
    Header,
    Items,
    Kind,
    LogPaths,
    Outcomes,
    SetAsideMissing,
    TimeFormat,
    Users,
    data,
    describe_merges,
    read_options,
    show_steps,
)

HELP = """Add the events of further logs to a prepared data set.

Users and items keep their numbers, new ones come after them. Events that the data set has already are counted and left
out; an outcome that arrived late goes to the slate it belongs to. Columns are those of the data set's
own import where the new log has them, else they are recognised by name; kind and rewards of outcomes are the same too,
unless an option says otherwise.

Example: slatewise data append data/shop runs/mine/serve/events
"""


@data.command("append", help=HELP)
def append_log(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Prepared data set.", show_default=False)],
    paths: LogPaths,
    items: Items = None,
    users: Users = None,
    kind: Kind = None,
    time_format: TimeFormat = None,
    outcome: Outcomes = None,
    column: Columns = None,
    header: Header = None,
    set_aside_missing: SetAsideMissing = False,
    as_json: JsonFlag = False,
) -> None:
    """Append; see HELP."""
    from slatewise.data.collecting import append_logs

    options = read_options(
        kind=kind,
        time_format=time_format,
        no_time=False,
        outcome=outcome,
        column=column,
        header=header,
        set_aside_missing=set_aside_missing,
    )
    with show_steps() as on_step:
        built, merges = append_logs(dataset, paths, options, items=items, users=users, progress=on_step)
    counts = built.manifest.counts
    value: dict[str, object] = {
        "path": str(built.path),
        "counts": asdict(counts),
        "merges": [asdict(merge) for merge in merges],
    }
    value |= {"account": built.manifest.source["account"], "fingerprint": built.fingerprint}
    lines = [
        *describe_merges(paths, merges),
        f"log       {counts.in_words()}",
        f"written   {built.path}",
    ]
    answer(value, as_json=as_json, text="\n".join(lines))
