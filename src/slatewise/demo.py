"""The whole path in one command: data → train → judge → report → serve → one answer."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slatewise.config.run import RunConfig
from slatewise.data import prepared
from slatewise.data.prepared import Dataset
from slatewise.errors import SlatewiseError, input_error
from slatewise.files import atomic_file
from slatewise.reproduce.movielens import Variant, config_of, variants

BEHAVIOUR = "cloning"
"""The variant that stands for the logging policy where the log has no propensities."""
SERVICE_SECONDS = 60.0
"""How long the service may take to start and to answer once."""

Say = Callable[[str], None]
Work = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]
"""A function and the arguments of each call → results as they come."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the demo works on and where it leaves its runs."""

    data: Path
    """Folder of the prepared data set."""
    runs: Path
    """Folder of the run folders and the report."""
    port: int = 8080
    """Port named in the commands to go on with; the demo itself asks on a free one."""
    variants: tuple[Variant, ...] = field(default_factory=variants)
    """Lines of the table; one is called "cloning", and those whose names begin with "reinforce" may be served."""
    workers: int = 2
    """Processes that train and judge, one core each; 1 = this very process."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the demo ends with."""

    rows: tuple[dict[str, Any], ...]
    report: Path
    served: str
    run: Path
    answer: dict[str, Any]
    commands: tuple[str, str]
    simulated: bool
    seconds: float


def run(settings: Settings, *, say: Say, advance: Callable[[int, int], None] = lambda done, total: None) -> Outcome:
    """Train, judge, report, serve, ask; finished runs are used again.

    Args:
        settings: see Settings.
        say: told each stage in a line.
        advance: told how many epochs of training are behind us, and of how many.

    Raises:
        SlatewiseError: a stage failed; the message says which and how to see more.
    """
    started = time.monotonic()
    dataset = prepared.load(settings.data)
    counts = dataset.manifest.counts
    size = ", ".join(f"{getattr(counts, name):,} {name}" for name in ("rows", "users", "items"))
    say(f"Data: {dataset.name}{label(simulated=dataset.simulated)}: {size}")
    if int(np.diff(dataset.interactions.user_offsets).max(initial=0)) < 3:
        raise input_error(
            "no user has three events; the last one tests, the last but one validates, and the others teach",
            file=settings.data,
            advice="Bring a log of longer histories.",
        )
    with _workers(settings.workers) as work:
        _train_all(settings, dataset, work, say=say, advance=advance)
        say("Judging them on the test part")
        folders = [settings.runs / variant.name for variant in settings.variants]
        judged = dict(work(_judge, [(folder, settings.runs / BEHAVIOUR) for folder in folders]))
    rows = tuple(
        {"name": variant.name, "label": variant.label, "corrected": variant.corrected, **judged[variant.name]}
        for variant in settings.variants
    )
    served = _choose(rows)
    folder = settings.runs / served
    request = {"user_id": dataset.users.name(0), "k": min(5, dataset.catalog.num_items)}
    commands = _commands(folder, request, settings.port)
    say(f"Serving {folder} and asking it once")
    answer = ask_once(folder, request)
    say("Writing the report")
    report = _report(settings, dataset, served, commands)
    return Outcome(
        rows=rows,
        report=report,
        served=served,
        run=folder,
        answer=answer,
        commands=commands,
        simulated=dataset.simulated,
        seconds=time.monotonic() - started,
    )


def label(*, simulated: bool) -> str:
    """What stands beside every figure of a simulated log."""
    return " (SIMULATED LOG: no person made these events)" if simulated else ""


def ask_once(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Start the service on a free port, ask for one slate, stop the service.

    Args:
        folder: the run.
        request: body of POST /recommend.

    Raises:
        SlatewiseError: the service did not start or did not answer.
    """
    command = [sys.executable, "-m", "slatewise.cli", "serve", str(folder), "--port", "0", "--seed", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stderr is not None
        # killed, it answers nothing: every wait below comes to an end
        watch = threading.Timer(SERVICE_SECONDS, service.kill)
        watch.start()
        try:
            line = service.stdout.readline()
            if not line:
                said = service.stderr.read().strip()[-500:] or f"no word within {SERVICE_SECONDS:.0f} s"
                raise SlatewiseError(f"The service did not start: {said}. Try: slatewise serve {folder}")
            url = json.loads(line)["url"]
            post = urllib.request.Request(
                f"{url}/recommend", data=json.dumps(request).encode(), headers={"Content-Type": "application/json"}
            )
            # the address is the one our own process just printed; no proxy stands between
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(post, timeout=SERVICE_SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise SlatewiseError(f"The service refused the request: {error.read().decode()}") from error
        except (OSError, ValueError, KeyError) as error:
            raise SlatewiseError(f"The service did not answer: {error}. Try: slatewise serve {folder}") from error
        finally:
            watch.cancel()
            service.terminate()
    return answer


@contextmanager
def _workers(number: int) -> Iterator[Work]:
    """Calls in some processes of their own, which end with the block however it ends."""
    if number == 1:
        yield lambda function, calls: (function(*call) for call in calls)
        return
    children_before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)

    def work(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        futures = [pool.submit(function, *call) for call in calls]
        # a submission wakes the thread that watches the processes before it starts its own process; without one more,
        # that thread would not notice the death of the last one
        pool.submit(int)
        for future in as_completed(futures):
            yield future.result()

    try:
        yield work
    except BaseException as error:
        # nobody waits for the epochs that are still being trained; what is checkpointed is there for the next start
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            if child not in children_before:
                child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise SlatewiseError(
                "A training process was killed; is there enough memory (`slatewise doctor`)? "
                "The same command goes on where it stopped."
            ) from error
        raise
    pool.shutdown()


def _begin() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one process that ends the others
    torch.set_num_threads(1)


def _train_all(
    settings: Settings, dataset: Dataset, work: Work, *, say: Say, advance: Callable[[int, int], None]
) -> None:
    """Every variant into its run folder."""
    epochs, calls = {}, []
    for variant in settings.variants:
        config = config_of(variant, dataset)
        epochs[variant.name] = config.train.epochs
        calls.append((config, settings.runs / variant.name))
    # the long ones first, so that no core waits at the end
    calls.sort(key=lambda call: -epochs[call[1].name])
    processes = f" in {settings.workers} processes" if settings.workers > 1 else ""
    say(f"Training {len(calls)} policies{processes}; what an earlier start finished is kept")
    labels = {variant.name: variant.label for variant in settings.variants}
    done = 0
    advance(done, sum(epochs.values()))
    for name, said in work(_train, calls):
        done += epochs[name]
        advance(done, sum(epochs.values()))
        say(f"  {labels[name]}: {said}")


def _train(config: RunConfig, folder: Path) -> tuple[str, str]:
    """Train one variant, or find it trained; its name and what there is to say of it."""
    from slatewise.training.loop import train

    other = folder.exists() and not _same_settings(config, folder)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    result = train(config, folder, resume=not other, overwrite=other, on_step=count)
    value = "no value" if result.value is None else f"{result.value:.3f}"
    validation = f"validation {result.select} {value}"
    if not steps:
        return folder.name, f"kept, {validation}"
    epochs = "1 epoch" if result.epochs == 1 else f"{result.epochs} epochs"
    # counting takes no time worth a rate
    pace = f", {result.interactions_per_second:,.0f} interactions/s" if result.seconds > 1 else ""
    return folder.name, f"{epochs}, {result.seconds:.1f} s{pace}, {validation}"


def _same_settings(config: RunConfig, folder: Path) -> bool:
    from slatewise.training.run import lay_out

    written = folder / "config.toml"
    return written.is_file() and written.read_text("utf-8") == lay_out(config, folder).config.to_toml()


def _judge(folder: Path, behaviour: Path) -> tuple[str, dict[str, Any]]:
    """Name, and validation and test metrics of a run; judged once per trained policy and logging policy."""
    from slatewise.training.finished_run import evaluate_run, open_run

    opened, logging_policy = open_run(folder), open_run(behaviour).artifact
    path, versions = folder / "evaluation.json", (opened.artifact.version, logging_policy.version)
    results = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    # `slatewise evaluate` may have judged a part since, without an estimate
    whole = set(results.get("parts", {})) == {"valid", "test"}
    # older versions stored neither
    whole = whole and "trajectories" in (results["parts"]["test"]["off_policy"] or {})
    whole = whole and all("used_items" in part for part in results["parts"].values())
    if not whole or (results.get("policy"), results.get("behaviour")) != versions:
        evaluate_run(opened, "valid", behaviour=None)
        evaluate_run(opened, "test", behaviour=logging_policy.policy)
        results = json.loads(path.read_text("utf-8")) | {"behaviour": logging_policy.version}
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    metrics = {
        part: {metric["name"]: metric for metric in results["parts"][part]["metrics"]} for part in results["parts"]
    }
    return folder.name, {**metrics, "off_policy": results["parts"]["test"]["off_policy"]}


def _choose(rows: Sequence[dict[str, Any]]) -> str:
    """The REINFORCE form that validates best on liked held-out items (on all, where nothing says what is liked)."""
    forms = [row for row in rows if row["name"].startswith("reinforce")]
    names = [name for name in forms[0]["valid"] if name.partition("@")[0] in ("liked_ndcg", "ndcg")]
    # a log may say what is liked, and hold no liked item out
    measured_names = [name for name in names if any(row["valid"][name]["value"] is not None for row in forms)]
    by = min(measured_names or names, key=lambda name: not name.startswith("liked_"))
    values = {str(row["name"]): row["valid"][by]["value"] for row in forms}
    return max(values, key=lambda name: float("-inf") if values[name] is None else float(values[name]))


def _commands(folder: Path, request: dict[str, Any], port: int) -> tuple[str, str]:
    body = json.dumps(request, ensure_ascii=False)
    program = Path(sys.argv[0]) if Path(sys.argv[0]).name == "slatewise" else Path("slatewise")
    shown = os.path.relpath(program) if program.is_absolute() else str(program)
    return (
        f"{shown} serve {shlex.quote(str(folder))} --port {port}",
        f"curl -s http://127.0.0.1:{port}/recommend -d {shlex.quote(body)}",
    )


def _report(settings: Settings, dataset: Dataset, served: str, commands: Sequence[str]) -> Path:
    from slatewise.report import write
    from slatewise.report.comparison import Entry
    from slatewise.report.runs import page
    from slatewise.training.finished_run import open_run

    entries = {
        variant.name: Entry(run=open_run(settings.runs / variant.name), label=variant.label)
        for variant in settings.variants
    }
    comparison = page(
        tuple(entries.values()),
        detailed=entries[served],
        part="test",
        title=f"From a log to a served policy: {dataset.name}",
        commands=commands,
    )
    path = settings.runs / "report.html"
    write(path, comparison)
    return path
