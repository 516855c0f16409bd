"""How far `slatewise train --data DIR`, without a configuration, stays behind the best simple method on six logs.

On each log and seed, REINFORCE, popularity, item_knn and cloning are trained with the settings that are chosen for the
log (`training.automatic`). The rival is whichever of the three others validates best; all are compared on the test
part, user by user. Default settings were chosen on the validation parts of the seeds 0 to 2, never on a test part.

bar       the mean difference of NDCG@10 to the rival, over logs and seeds, is at least −.01; on no log is the whole
          paired interval of the difference to popularity below 0.

    python bench/default_settings.py [--json] [--quick] [--seed 0] [--processes 2] [--write]
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _default_logs
from _run import finish, parser

# isort: split
import numpy as np
import torch

from slatewise.evaluation import metrics, rank
from slatewise.files import atomic_file
from slatewise.stats import mean_interval
from slatewise.training.automatic import DEFAULT_METHOD, choose
from slatewise.training.finished_run import FinishedRun, open_run
from slatewise.training.loop import train

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "defaults.md"
BLOCK = re.compile(r"(?<=--write -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
RIVALS = ("popularity", "item_knn", "cloning")
BAR = -0.01
K = 10


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training."""

    log: str
    seed: int
    method: str
    data: Path
    quick: bool


@dataclass(frozen=True, kw_only=True)
class Scores:
    """NDCG@10 of one policy: on the validation part, and of each user of the test part."""

    job: Job
    valid: float
    test: dict[tuple[str, int], float]
    """By fingerprint of the data set and number of the user."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One log: means over its seeds, and paired differences over its users."""

    log: str
    test: dict[str, float]
    valid: dict[str, float]
    rivals: tuple[str, ...]
    """The best on validation, of each seed."""
    difference: float
    """To the rivals, mean over seeds."""
    to_popularity: tuple[float, float, float]
    """Mean over users and the bounds of its interval."""
    to_rival: tuple[float, float, float]
    seconds: float


def main() -> None:
    options = parser(__doc__, "default_settings")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--movielens", type=Path, default=Path("data/ml-100k"), help="prepared data set")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--write", action="store_true", help="put the table into docs/guides/defaults.md")
    given = options.parse_args()
    begun = time.monotonic()
    seeds = range(given.seed, given.seed + (1 if given.quick else given.seeds))
    with tempfile.TemporaryDirectory() as name:
        jobs = []
        for log in _default_logs.NAMES:
            for seed in seeds:
                data = _default_logs.build(log, seed, Path(name), given.movielens).path
                jobs += [
                    Job(log=log, seed=seed, method=method, data=data, quick=given.quick)
                    for method in (DEFAULT_METHOD, *RIVALS)
                ]
        # the long ones first, so that no core waits at the end
        jobs.sort(key=lambda job: (job.log != "ml-clicks", job.method in ("popularity", "item_knn")))
        with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
            scores = list(pool.map(measure, jobs))
    rows = [row(log, [one for one in scores if one.job.log == log]) for log in _default_logs.NAMES]
    lines = table(rows)
    finish(given, begun=begun, settings={"seeds": list(seeds)}, rows=[vars(one) for one in rows], lines=lines)
    if given.write:
        page = PAGE.read_text("utf-8")
        with atomic_file(PAGE) as temporary:
            temporary.write_text(BLOCK.sub(lambda _: "\n" + "\n".join(lines) + "\n\n", page), encoding="utf-8")


def measure(job: Job) -> Scores:
    """Train one policy with the settings chosen for its log, and rank for every user of both parts."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    short = ["train.epochs=2", "method.imitation.epochs=0"] if job.method == DEFAULT_METHOD else ["train.epochs=2"]
    choice = choose(job.data, job.method, [f"train.seed={job.seed}", *(short if job.quick else [])])
    with tempfile.TemporaryDirectory() as name:
        run = open_run(train(choice.config, Path(name) / "run", reasons=choice.reasons).folder)
        valid, test = ndcg(run, "valid"), ndcg(run, "test")
    return Scores(job=job, valid=float(np.mean(list(valid.values()))), test=test, seconds=time.monotonic() - begun)


def ndcg(run: FinishedRun, part: Any) -> dict[tuple[str, int], float]:
    """NDCG@10 of each user with something to find."""
    config = run.artifact.config.evaluate
    num_rows = run.dataset.catalog.num_rows
    ranking = rank(run.artifact.policy, run.split.part(part), config, num_rows=num_rows)
    relevant = ranking.relevance.relevant
    values = metrics.ndcg(ranking.hits[:, :K], relevant)
    print_of = run.dataset.fingerprint
    return {
        (print_of, int(user)): float(value)
        for user, value, count in zip(ranking.user, values, relevant, strict=True)
        if count
    }


def row(log: str, scores: Sequence[Scores]) -> Row:
    """What the scores of one log say."""
    by = {(one.job.method, one.job.seed): one for one in scores}
    seeds = sorted({one.job.seed for one in scores})
    rivals = [max(RIVALS, key=lambda method: by[method, seed].valid) for seed in seeds]
    ours = [by[DEFAULT_METHOD, seed].test for seed in seeds]
    best = [by[rival, seed].test for rival, seed in zip(rivals, seeds, strict=True)]
    popularity = [by["popularity", seed].test for seed in seeds]
    methods = (DEFAULT_METHOD, *RIVALS)
    return Row(
        log=log,
        test={name: float(np.mean([mean(by[name, seed].test) for seed in seeds])) for name in methods},
        valid={name: float(np.mean([by[name, seed].valid for seed in seeds])) for name in methods},
        rivals=tuple(rivals),
        difference=float(np.mean([mean(mine) - mean(other) for mine, other in zip(ours, best, strict=True)])),
        to_popularity=paired(ours, popularity),
        to_rival=paired(ours, best),
        seconds=sum(one.seconds for one in scores),
    )


def mean(values: dict[tuple[str, int], float]) -> float:
    return float(np.mean(list(values.values())))


def paired(
    ours: Sequence[dict[tuple[str, int], float]], others: Sequence[dict[tuple[str, int], float]]
) -> tuple[float, float, float]:
    """Mean difference over users and its interval; a user who is in the log of several seeds counts once."""
    differences: dict[tuple[str, int], list[float]] = {}
    for mine, other in zip(ours, others, strict=True):
        for user, value in mine.items():
            differences.setdefault(user, []).append(value - other[user])
    return mean_interval(torch.tensor([float(np.mean(each)) for each in differences.values()], dtype=torch.float64))


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown, and which bars hold."""
    methods = (DEFAULT_METHOD, *RIVALS)
    head = ["log", *methods, "best on validation", "difference to it", "difference to popularity"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in rows:
        rivals = ", ".join(sorted(set(one.rivals)))
        cells = [*(f"{one.test[name]:.4f}" for name in methods), rivals, span(one.to_rival), span(one.to_popularity)]
        lines.append("| " + " | ".join([one.log, *cells]) + " |")
    difference = float(np.mean([one.difference for one in rows]))
    below = [one.log for one in rows if one.to_popularity[2] < 0]
    return [
        *lines,
        "",
        f"Mean difference to the best on validation: {difference:+.4f} (bar {BAR:+.2f}: "
        f"{'holds' if difference >= BAR else 'fails'}). Whole interval below popularity: "
        f"{', '.join(below) or 'on no log'}.",
    ]


def span(interval: tuple[float, float, float]) -> str:
    middle, low, high = interval
    return f"{middle:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
