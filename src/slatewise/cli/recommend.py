"""slatewise recommend RUN."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slatewise.cli._console import AllowModule, JsonFlag, answer, progress
from slatewise.cli._interrupts import command_again, nothing_written
from slatewise.cli.serve import AllowRepeats, Greedy, Keep, Mask, Temperature, TopM
from slatewise.wording import agree, count_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from jaxtyping import Bool, Float, Int

    from slatewise.artifact import Artifact
    from slatewise.data.prepared import Dataset
    from slatewise.serve.batch import Audience, Conditions, SlateWriter, Summary
    from slatewise.user_file import UserTable

HELP = """Write a slate for every user of a file, or of the log, into one table.

Columns: user_id, position (from 0), item_id, title, score (log-probability of the item in one draw from the whole
catalog) and logp (log-propensity of the position under the conditions of the slate). Histories come from the log that
the run was trained on, to its end, or from --data. A table of --users may describe users in columns named as in the
table of users that was imported. A stopped command goes on where it was when it is given again.

--where "price <= 50 and category in ('x', 'y')" keeps to items whose columns match; also between, like, is null,
contains, or, not.

Example: slatewise recommend runs/reinforce --all --k 10 --out recs.parquet
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("recommend", help=HELP)(recommend)


def recommend(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or artifact folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write: NAME.parquet or NAME.csv.", show_default=False)],
    users: Annotated[
        Path | None, typer.Option(help="File of users: one a line, or a table with user_id (and context columns).")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every user of the log.")] = False,
    k: Annotated[int, typer.Option(help="Items of a slate.", min=1)] = 10,
    data: Annotated[Path | None, typer.Option(help="Prepared log of the histories; default that of the run.")] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of items never to show: one a line, or a table with item_id (user_id).")
    ] = None,
    candidates: Annotated[Path | None, typer.Option(help="File of the only items to show.")] = None,
    mask: Mask = None,
    where: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Show only items whose columns match, such as price <= 50.")
    ] = None,
    top_m: TopM = None,
    keep: Keep = None,
    temperature: Temperature = None,
    greedy: Greedy = None,
    allow_repeats: AllowRepeats = None,
    seed: Annotated[int, typer.Option(help="Of the draws.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Recommend; see HELP."""
    from slatewise.errors import input_error
    from slatewise.serve.batch import Conditions, SlateWriter
    from slatewise.serve.opening import Options, open_artifact, open_history

    if everybody == (users is not None):
        raise input_error("expected either --users FILE or --all")
    options = Options(
        data=data,
        top_m=top_m,
        keep=keep,
        temperature=temperature,
        greedy=greedy,
        allow_repeats=allow_repeats,
        allow_modules=allow_module,
    )
    artifact, config = open_artifact(run, options)
    artifact, dataset, notes = open_history(artifact, data)
    audience = read_audience(artifact, dataset, users, notes)
    conditions = Conditions(
        k=k,
        exploration=None if config.greedy else config.exploration(k),
        exclude_seen=not config.allow_repeats,
        seed=seed,
        allowed=_matching_items(artifact, where, mask, notes),
        **_rules(artifact, audience, exclude, candidates, notes),
    )
    summary = _write(SlateWriter(artifact, dataset), out, audience, conditions, overwrite=overwrite)
    notes += summary.notes(k)
    head = f"{out}: {count_of(summary.rows, 'row')} for {count_of(summary.users, 'user')}"
    words = [head, *(f"Note: {note}." for note in notes)]
    answer({"out": str(out), **asdict(summary), "notes": notes}, as_json=as_json, text="\n".join(words))


def _write(writer: SlateWriter, out: Path, audience: Audience, conditions: Conditions, *, overwrite: bool) -> Summary:
    """Write the slates; a stop says for how many users they are there."""
    users, users_done = len(audience.names), 0

    def stop_message() -> str:
        state = f"The slates of {users_done:,} of {users:,} users are kept beside {out}"
        return f"Interrupted. {state}. Go on: {command_again()}" if users_done else nothing_written()

    with progress(stopped=stop_message) as work:
        stage = work.stage("recommending", unit="user", total=users)

        def on_users(done: int) -> None:
            nonlocal users_done
            users_done = done
            stage.report(done)

        return writer.write(out, audience, conditions, overwrite=overwrite, on_users=on_users)


def read_audience(artifact: Artifact, dataset: Dataset, users: Path | None, notes: list[str]) -> Audience:
    """Who gets a slate; what is to be said of the file that lists them is added to the notes."""
    import numpy as np
    import pyarrow as pa

    from slatewise.data.reading.request_lists import read_name_list
    from slatewise.errors import input_error
    from slatewise.protocols import ReadsContext
    from slatewise.serve.batch import Audience
    from slatewise.serve.recommender import user_table_of

    encoder = artifact.policy.encoder
    width = encoder.context_width if isinstance(encoder, ReadsContext) else 0
    user_table = user_table_of(artifact, dataset)
    width -= 0 if user_table is None else user_table.width
    names = dataset.manifest.context
    if users is None:
        if width:
            raise input_error(
                f"the policy reads {width} numbers of context, which --all does not give",
                advice=f"Pass a table: --users FILE with user_id, {', '.join(names)}.",
            )
        about = None if user_table is None else user_table.of(dataset.users.names)
        return Audience(names=dataset.users.names, context=about)
    frame = read_name_list(users, ["user_id"])
    again = frame.height - frame["user_id"].n_unique()
    frame = frame.unique("user_id", keep="first", maintain_order=True)
    if again:
        rows = f"{count_of(again, 'row')} of {users.name} {agree(again, 'names', 'name')} a user again"
        notes.append(f"{rows}; the first one counts")
    missing = [name for name in names if name not in frame.columns] if width else []
    if missing:
        raise input_error(f"the policy reads context; columns {', '.join(missing)} are missing", file=users)
    listed = frame["user_id"].to_arrow().cast(pa.string())
    parts = [frame.select(names).to_numpy().astype(np.float32)] if width else []
    if user_table is not None:
        parts.append(_user_features(users, listed, user_table, notes))
    return Audience(names=listed, context=np.concatenate(parts, axis=1) if parts else None)


def _user_features(file: Path, names: pa.StringArray, table: UserTable, notes: list[str]) -> Float[np.ndarray, "U G"]:
    """Features of users: those of the table, and in their place what the file says in columns of the same names."""
    import numpy as np

    from slatewise.data.reading.checks import CONTEXT
    from slatewise.data.reading.column_aliases import name_columns
    from slatewise.data.reading.request_lists import read_request_table
    from slatewise.data.reading.user_files import columns_of, encode_users
    from slatewise.user_file import IN

    rows = read_request_table(file, ["user_id"])
    columns = columns_of(rows, name_columns(rows.frame.columns).columns["user_id"])
    described = {name: values for name, values in columns.columns.items() if not name.startswith(CONTEXT)}
    columns = replace(columns, columns=described)
    encoded, new_notes = encode_users(columns, table.scales)
    notes += [note.removesuffix(".") for note in new_notes if len(rows.frame.columns) > 1]
    features = table.of(names)
    of_file = encoded.of(names)
    for place, scale in enumerate(table.scales):
        name = scale.name.partition(IN)[0]
        if name in columns.columns:
            is_filled = columns.columns[name].is_not_null().to_numpy()
            features[:, place] = np.where(is_filled, of_file[:, place], features[:, place])
    return features


def _rules(
    artifact: Artifact, audience: Audience, exclude: Path | None, candidates: Path | None, notes: list[str]
) -> dict[str, Any]:
    """Exclusions and candidates in item numbers; items that the policy does not know are noted."""
    import numpy as np
    import pyarrow as pa

    from slatewise.data.reading.request_lists import read_name_list
    from slatewise.errors import input_error
    from slatewise.log import FIRST_ITEM, Vocabulary
    from slatewise.logged_requests import ItemLists

    rules: dict[str, Any] = {}
    if candidates is not None:
        item = _item_numbers(artifact, candidates, read_name_list(candidates, ["item_id"])["item_id"], notes)
        rules["candidates"] = np.unique(item[item >= FIRST_ITEM])
        if not len(rules["candidates"]):
            raise input_error("none of its items is in the catalog of the run", file=candidates)
    if exclude is not None:
        frame = read_name_list(exclude, ["item_id", "user_id"])
        item = _item_numbers(artifact, exclude, frame["item_id"], notes)
        if "user_id" not in frame.columns:
            rules["exclude"] = np.unique(item[item >= FIRST_ITEM])
            return rules
        users = Vocabulary(names=audience.names, first=0, unknown=-1)
        place = users.encode(frame["user_id"].to_arrow().cast(pa.string()))
        rows = np.flatnonzero((place >= 0) & (item >= FIRST_ITEM))
        rows = rows[np.argsort(place[rows], kind="stable")]
        offsets = np.searchsorted(place[rows], np.arange(len(users) + 1))
        rules["exclude_of_user"] = ItemLists(offsets=offsets, item=item[rows])
    return rules


def _matching_items(
    artifact: Artifact, where: str | None, mask: Path | None, notes: list[str]
) -> Bool[np.ndarray, "rows"] | None:
    """What a filter and a mask leave, by item number; None = everything."""
    import numpy as np

    from slatewise.data.item_columns import ItemColumns
    from slatewise.data.item_filter import ItemFilters
    from slatewise.data.reading.request_lists import read_name_list
    from slatewise.errors import input_error
    from slatewise.log import FIRST_ITEM

    if where is None and mask is None:
        return None
    allowed = np.ones(artifact.catalog.num_rows, np.bool_)
    if where is not None:
        allowed &= ItemFilters(ItemColumns.of(artifact.catalog)).at_least_one(where)
        notes.append(f"{int(allowed.sum()):,} of {artifact.catalog.num_items:,} items match --where")
    if mask is not None:
        allowed[_item_numbers(artifact, mask, read_name_list(mask, ["item_id"])["item_id"], notes)] = False
        if not allowed[FIRST_ITEM:].any():
            raise input_error(
                "every item that may be shown is masked",
                file=mask,
                advice="Take items out of the mask, or loosen --where.",
            )
    return allowed


def _item_numbers(artifact: Artifact, file: Path, names: pl.Series, notes: list[str]) -> Int[np.ndarray, "N"]:
    import pyarrow as pa

    from slatewise.log import FIRST_ITEM

    number = artifact.catalog.vocabulary.encode(names.to_arrow().cast(pa.string()))
    if unknown := int((number < FIRST_ITEM).sum()):
        notes.append(f"{count_of(unknown, 'item')} of {file.name} not in the catalog of the run")
    return number
