"""β̂: a clone of the logging policy, for logs without propensities; fitted on the training part of a run alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from slatewise import artifact, evaluation
from slatewise.config import TrainConfig
from slatewise.config.run import Component, RunConfig
from slatewise.data.splits import PartName
from slatewise.encoders import gru
from slatewise.methods import cloning
from slatewise.protocols import Policy
from slatewise.training.finished_run import FinishedRun
from slatewise.training.loop import train


def fit_behaviour(
    run: FinishedRun, part: PartName, *, always: bool = False, on_step: Callable[[Any, int], None] | None = None
) -> Policy | None:
    """A clone of the logging policy, fitted on the training part alone and stored in the run folder.

    None where the log has propensities of single draws itself, for however few steps of the part, unless `always`.

    Args:
        run: the opened run.
        part: the part to evaluate on.
        always: fit even where the log has propensities.
        on_step: called with the progress of the fit and its length.
    """
    if run.on_another_log:
        return None  # a clone would have to learn from the events that it is to weigh
    if not always and evaluation.count_propensities(run.split.part(part)).single_draws:
        return None
    folder = run.folder / "behaviour"
    if not (folder / "artifact" / "manifest.json").is_file():
        train(_behaviour_config(run), folder, resume=True, on_step=on_step)
    return artifact.load(folder / "artifact").policy


def _behaviour_config(run: FinishedRun) -> RunConfig:
    """A clone of the logging policy, on the data of the run and evaluated as the run is."""
    config = run.artifact.config
    return RunConfig(
        method=Component(name="cloning", settings=cloning.Config()),
        encoder=Component(name="gru", settings=gru.Config(dropout=0.3)),
        data=config.data and replace(config.data, path=str(run.dataset.path)),
        train=TrainConfig(select=f"ndcg@{max(config.evaluate.k)}"),
        evaluate=config.evaluate,
    )
