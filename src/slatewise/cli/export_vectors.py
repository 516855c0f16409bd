"""slatewise export-vectors RUN."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slatewise.cli._console import AllowModule, JsonFlag, answer, progress

HELP = """Write the vector of every item, for an index or another model.

Parquet: item_id, title, vector (float32) and, where the score has one, bias; one row an item, in the order of the
catalog. A file .npy holds the vectors alone, with the bias as the last number of each.

--queries writes the vector of each user of a file beside it: query · vector (+ bias) is the policy's score, and its
softmax over the items the probability of one draw. Policies whose scores are not such products are refused.

Example: slatewise export-vectors runs/reinforce --out vectors.parquet --queries users.csv
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export-vectors", help=HELP)(export_vectors)


def export_vectors(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or artifact folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write: NAME.parquet or NAME.npy.", show_default=False)],
    queries: Annotated[
        Path | None,
        typer.Option(metavar="USERS", help="File of users: one a line, or a table with user_id (and context columns)."),
    ] = None,
    queries_out: Annotated[
        Path | None, typer.Option("--queries-out", help="File of their vectors; default NAME-queries beside --out.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared log of the histories; default that of the run.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Export; see HELP."""
    from slatewise.cli.recommend import read_audience
    from slatewise.serve.batch import SlateWriter
    from slatewise.serve.opening import Options, open_artifact, open_history
    from slatewise.serve.vectors import check_out, inner_products, write_queries, write_vectors

    artifact, _ = open_artifact(run, Options(allow_modules=allow_module))
    inner_products(artifact)
    check_out(out, overwrite=overwrite)
    value: dict[str, object] = {"out": str(out)}
    lines: list[str] = []
    with progress() as work:
        if queries is not None:
            queries_out = queries_out or out.with_name(f"{out.stem}-queries{out.suffix}")
            check_out(queries_out, overwrite=overwrite)
            artifact, dataset, notes = open_history(artifact, data)
            audience = read_audience(artifact, dataset, queries, notes)
            stage = work.stage("reading histories", unit="user", total=len(audience.names))
            states = SlateWriter(artifact, dataset).states(audience)
            users = write_queries(artifact, audience.names, states, queries_out, on_users=stage.report)
            value |= {"queries": str(queries_out), "users": users, "notes": notes}
            lines = [f"{queries_out}: {users:,} users", *(f"Note: {note}." for note in notes)]
        written = write_vectors(artifact, out)
    bias = " and a bias" if written.bias else ""
    lines.insert(0, f"{out}: {written.rows:,} items, vectors of {written.width:,} numbers{bias}")
    answer(value | asdict(written), as_json=as_json, text="\n".join(lines))
