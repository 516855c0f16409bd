"""What the bench scripts share: arguments, work timed in turns, and one JSON object with commit, seed and machine.

Figures of different minutes cannot be compared on a machine that does other things as well. So every round does each
piece of work once, one after the other; printed are medians over the rounds, and a ratio is the median of the rounds'
own ratios. CPU seconds stand beside the clock: they depend less on what else is running.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _waiting

# isort: split
from slatewise import machine
from slatewise.files import atomic_file


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a piece of work took, once."""

    seconds: float
    cpu_seconds: float
    """Of all threads."""

    def __add__(self, other: Taken) -> Taken:
        """One after the other."""
        return Taken(seconds=self.seconds + other.seconds, cpu_seconds=self.cpu_seconds + other.cpu_seconds)


def parser(text: str | None, name: str) -> argparse.ArgumentParser:
    """Arguments that every script has: --json, --quick, --seed, --rounds, --out."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    made.add_argument("--quick", action="store_true", help="fewer and shorter rounds: shows that it runs, no figures")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--rounds", type=int, default=5, help="after one that warms up and does not count")
    made.add_argument("--out", type=Path, default=Path("bench/results") / f"{name}.json", help="where the JSON is kept")
    return made


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Taken]]:
    """Each piece of work once a round, one after the other; a first round that warms up is left out."""
    found: dict[str, list[Taken]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            taken = timed(work)
            if turn:
                found[name].append(taken)
    return found


def timed(work: Callable[[], object]) -> Taken:
    """What a piece of work takes in this process."""
    cpu, begun = _cpu_seconds(), time.perf_counter()
    work()
    return Taken(seconds=time.perf_counter() - begun, cpu_seconds=_cpu_seconds() - cpu)


def medians(taken: Sequence[Taken]) -> Taken:
    """Of the rounds."""
    return Taken(
        seconds=statistics.median(one.seconds for one in taken),
        cpu_seconds=statistics.median(one.cpu_seconds for one in taken),
    )


def ratio(ours: Sequence[Taken], floor: Sequence[Taken]) -> float:
    """How many times as long ours takes: the median of the rounds' ratios."""
    return statistics.median(one.seconds / other.seconds for one, other in zip(ours, floor, strict=True))


def cpu_ratio(ours: Sequence[Taken], floor: Sequence[Taken]) -> float:
    """The same in CPU seconds, which other work on the machine disturbs less."""
    return statistics.median(one.cpu_seconds / other.cpu_seconds for one, other in zip(ours, floor, strict=True))


def finish(
    options: argparse.Namespace,
    *,
    begun: float,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[str],
) -> None:
    """Keep the result, and print it: one JSON object, or lines.

    Args:
        options: of `parser`.
        begun: `time.monotonic()` at the start.
        settings: what was run.
        rows: the figures.
        lines: the figures in words.
    """
    seen = machine.facts()
    result = {
        "bench": options.out.stem,
        "commit": machine.commit(),
        "seed": options.seed,
        "machine": asdict(seen),
        "seconds": round(time.monotonic() - begun, 1),
        "quick": options.quick,
        "settings": {"spin": _waiting.SPIN, **settings},
        "rows": [dict(row) for row in rows],
    }
    with atomic_file(options.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(result))
        return
    load = f", load {seen.load:.1f}" if seen.load is not None else ""
    print(
        f"{seen.cpu}, {seen.cores} cores, {seen.threads} threads, {seen.instructions}{load}, commit {result['commit']}"
    )
    print("\n".join(lines))


def draw(
    options: argparse.Namespace,
    name: str,
    *,
    x: str,
    y: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> Path:
    """Lines on logarithmic axes as a page beside the JSON.

    Args:
        options: of `parser`.
        name: of the figure, part of the file's name.
        x: what the horizontal axis counts.
        y: the vertical one.
        curves: points by name.
    """
    import plotly.graph_objects as plotly

    figure = plotly.Figure(
        [
            plotly.Scatter(name=label, x=[a for a, _ in points], y=[b for _, b in points], mode="lines+markers")
            for label, points in curves.items()
        ]
    )
    figure.update_layout(title=f"{options.out.stem}: {name}", template="plotly_white", width=900, height=540)
    figure.update_xaxes(title=x, type="log")
    figure.update_yaxes(title=y, type="log")
    path: Path = options.out.with_name(f"{options.out.stem}-{name.replace(' ', '-')}.html")
    with atomic_file(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True)
    return path


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
