"""A fitted user model against a log: the part of its own log that it did not learn from, or another log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slatewise import artifact
from slatewise.data import prepared, splits
from slatewise.errors import input_error
from slatewise.log import LogPart
from slatewise.sim._opening import check_catalog
from slatewise.sim.log_fitted.env import load
from slatewise.sim.log_fitted.fidelity import Report, fidelity


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A fidelity report, and what it was made of."""

    log: str
    part: str
    """test: of the log that the model was fitted to; all: of a log that it never saw."""
    report: Report


def judge_fit(run: Path, log: Path, *, seed: int = 0, on_batch: Callable[[int], None] = lambda users: None) -> Judged:
    """Hold a run's user model against a prepared log.

    Args:
        run: run folder of `slatewise train` with a user model.
        log: prepared data set; of the one that the run was trained on, the test part of its split is read.
        seed: of everything that is drawn.
        on_batch: told the number of users done.

    Raises:
        InputError: no user model or log there, other items or context, or nothing held out.
    """
    fitted, dataset = load(run), prepared.load(log)
    check_catalog(fitted.catalog, dataset.catalog, path=run, world=dataset.name)
    width, has = fitted.policy.context_width, dataset.interactions.context.shape[1]
    if width not in (0, has):
        raise input_error(f"the log has {has} columns of context, the model reads {width}", file=log)
    trained = artifact.load(run / "artifact" if (run / "artifact").is_dir() else run)
    interactions, data = dataset.interactions, trained.config.data
    if data is None or trained.manifest.source.fingerprint != dataset.fingerprint:
        held_out, part = LogPart.whole(interactions), "all"
    else:
        held_out, part = splits.split_log(data, interactions, clock=dataset.clock).test, "test"
    report = fidelity(fitted, held_out, seed=seed, on_batch=on_batch)
    return Judged(log=dataset.name, part=part, report=report)
