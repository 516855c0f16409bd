"""Cells: independent parts of a reproduction, computed in several processes and kept, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slatewise import config as configs
from slatewise.errors import SlatewiseError
from slatewise.files import atomic_file
from slatewise.machine import commit
from slatewise.reproduce._digest import Code
from slatewise.reproduce._story import Provenance, Story


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One part that can be computed alone: same settings, same result."""

    name: str
    """Unique among the cells of a paper; letters, digits, dots, dashes and underscores."""
    settings: dict[str, Any]
    """Numbers, texts, truth values, and lists and tables of them."""

    @classmethod
    def of(cls, name: str, kind: str, seed: int, **settings: Any) -> Cell:
        """A cell that has a kind and a seed, which ends its name."""
        return cls(name=f"{name}-{seed}", settings={"kind": kind, "seed": seed} | settings)


def by_kind(**kinds: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Cell], dict[str, Any]]:
    """A `run` that hands the settings of a cell to the function of its kind."""
    return lambda cell: kinds[cell.settings["kind"]](cell.settings)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A cell to compute, and where its result goes."""

    paper: str
    cell: Cell
    path: Path
    commit: str
    """Of the code that computes it."""
    modules: frozenset[str]
    """Modules that the digest in the file's name covers."""


def reproduce(
    paper: str,
    *,
    folder: Path,
    quick: bool = False,
    seed_base: int = 0,
    processes: int = 2,
    on_cell: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> tuple[Story, Provenance]:
    """Compute what is missing and tell the whole.

    Args:
        paper: file name in reproduce/.
        folder: where finished cells are kept; a cell is used again while its settings and the code behind it are the
            same (see _digest).
        quick: the short form.
        seed_base: moves every seed.
        processes: cells computed at the same time, one core each.
        on_cell: called with the name of a finished cell, the number of finished ones and of all.

    Returns:
        the story, and where the results of its cells come from.

    Raises:
        InputError: no such paper.
        SlatewiseError: a cell failed; the finished ones are kept.
    """
    module = configs.find("reproduce", paper)
    cells: list[Cell] = module.cells(quick=quick, seed_base=seed_base)
    code, head = Code.of(module.__name__), commit()
    results: dict[str, dict[str, Any]] = {}
    commits: Counter[str] = Counter()
    tasks: list[Task] = []
    for cell in cells:
        closure = code.closure(cell.settings)
        path = folder / f"{cell.name}-{_key(cell.settings, closure.digest)}.json"
        if path.is_file():
            finished = json.loads(path.read_text(encoding="utf-8"))
            results[cell.name] = finished["result"]
            commits[finished["commit"]] += 1
        else:
            tasks.append(Task(paper=paper, cell=cell, path=path, commit=head, modules=closure.modules))
    for cell in cells:
        if cell.name in results:
            on_cell(cell.name, len(results), len(cells))
    for name, result in _compute(tasks, processes):
        results[name] = result
        commits[head] += 1
        on_cell(name, len(results), len(cells))
    story: Story = module.tell(results, quick=quick, seed_base=seed_base)
    return story, Provenance(total=len(cells), ready=len(cells) - len(tasks), commits=commits)


def _compute(tasks: list[Task], processes: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if processes == 1 or len(tasks) == 1:
        for task in tasks:
            with _name_failures(task.cell):
                result = _work(task)
            yield task.cell.name, result
        return
    if not tasks:
        return
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    children_before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(min(processes, len(tasks)), mp_context=spawn, initializer=_begin)
    # handed out in their order, two ahead: cells that share a log follow each other in the same process
    waiting = list(reversed(tasks))
    running: dict[Future[dict[str, Any]], Cell] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes + 1:
                task = waiting.pop()
                running[pool.submit(_work, task)] = task.cell
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                cell = running.pop(future)
                with _name_failures(cell):
                    result = future.result()
                yield cell.name, result
    except Exception:
        pool.shutdown(cancel_futures=True)  # cells that have begun are finished and kept
        raise
    except BaseException:
        # nobody waits for a cell after a stop
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            if child not in children_before:
                child.terminate()
        raise
    pool.shutdown()


@contextmanager
def _name_failures(cell: Cell) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise SlatewiseError(
            f"{cell.name} failed: {type(error).__name__}: {error}. Finished cells are kept; start again to go on."
        ) from error


def _work(task: Task) -> dict[str, Any]:
    module = configs.find("reproduce", task.paper)
    loaded_before = set(sys.modules)
    result: dict[str, Any] = module.run(task.cell)
    packages = {name.split(".")[0] for name in task.modules}
    uncovered = {name for name in set(sys.modules) - loaded_before if name.split(".")[0] in packages} - task.modules
    if uncovered:
        raise SlatewiseError(f"it loaded {', '.join(sorted(uncovered))}, which the digest of its code leaves out")
    value = {"cell": task.cell.name, "settings": task.cell.settings, "commit": task.commit, "result": result}
    with atomic_file(task.path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
    return result


def _begin() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one process that ends the others
    torch.set_num_threads(1)


def _key(settings: dict[str, Any], code: str) -> str:
    return hashlib.sha256((json.dumps(settings, sort_keys=True) + code).encode()).hexdigest()[:12]
