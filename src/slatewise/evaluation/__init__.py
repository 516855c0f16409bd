"""A policy on held-out data: full ranking with intervals, off-policy estimates with logged or fitted propensities, and
the calibration of its β̂ where it has one.

One case a user: the state after everything before the part, against all that the user used within the part. Items that
were used before are excluded from the list (`exclude_seen`), as in serving, and then they are not relevant either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from slatewise.config import EvaluateConfig
from slatewise.data.prepared import Dataset
from slatewise.evaluation.calibration import Calibration, calibrate
from slatewise.evaluation.measurements import metric_names, metric_range, ranking_metrics, user_values, users_of
from slatewise.evaluation.off_policy import (
    LoggedPropensities,
    count_propensities,
    estimate_off_policy,
    estimate_to_json,
    held_out_log_pi,
)
from slatewise.evaluation.ranking import Ranking, rank, states_at
from slatewise.evaluation.relevance import Relevance, RelevanceSummary, relevance, short_lists_note, used_items
from slatewise.log import PAD, LogPart
from slatewise.protocols import EstimatesBehaviour, Policy
from slatewise.stats import Measurement
from slatewise.types import Estimate


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A policy judged on one part of a split."""

    relevance: RelevanceSummary
    """Who had something to find."""
    short_lists: int
    """Users whose list is shorter than the longest k, because fewer items may be shown to them."""
    metrics: tuple[Measurement, ...]
    estimate: Estimate | None
    behaviour: Calibration | None = None
    """How well the policy's own β̂ foretells what is shown."""
    notes: tuple[str, ...] = ()
    """On settings that leave metrics without a value."""

    @property
    def users(self) -> int:
        """Users with an event in the part: each was given a list."""
        return self.relevance.users

    def sentences(self) -> list[str]:
        """What to say beside the metrics: who is left out and why, repeats, short lists."""
        sentences = [*self.relevance.sentences(), *self.notes]
        if self.short_lists:
            sentences.append(short_lists_note(self.short_lists))
        return sentences

    def value(self, name: str) -> float:
        """The metric of that name.

        Raises:
            KeyError: there is none; the message lists what there is.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric.value
        raise KeyError(f'no metric "{name}"; there are: {", ".join(metric.name for metric in self.metrics)}')

    def to_json(self) -> dict[str, object]:
        """As JSON can hold it; what is not a number becomes null."""
        metrics = [{name: _finite(value) for name, value in asdict(metric).items()} for metric in self.metrics]
        behaviour = self.behaviour.to_json() if self.behaviour is not None else None
        return {
            **asdict(self.relevance),
            "short_lists": self.short_lists,
            "metrics": metrics,
            "off_policy": estimate_to_json(self.estimate) if self.estimate is not None else None,
            "behaviour": behaviour,
        }


def evaluate(
    policy: Policy,
    dataset: Dataset,
    part: LogPart,
    config: EvaluateConfig,
    *,
    trained_on: LogPart,
    behaviour: Policy | None = None,
    off_policy: bool = True,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ranking metrics and, where single draws have propensities or a behaviour policy is given, an off-policy estimate.

    Args:
        policy: the judged policy.
        dataset: the log and its catalog.
        part: the part to judge on.
        config: see EvaluateConfig.
        trained_on: the part that says how popular an item is.
        behaviour: its ``log_pi`` stands for the propensities of all events; None takes the logged ones.
        off_policy: False leaves the estimate and the calibration out.
        seed: of the draws of a policy that draws.
        on_batch: told the number of users done after each batch.

    Raises:
        ValueError: a list longer than the catalog.
    """
    num_rows = dataset.catalog.num_rows
    ranking = rank(policy, part, config, num_rows=num_rows, seed=seed, on_batch=on_batch)
    estimate = None
    if off_policy and (behaviour is not None or count_propensities(part).single_draws):
        estimate = estimate_off_policy(policy, part, config, behaviour=behaviour, only_uses=dataset.kind == "uses")
    calibrated = None
    if off_policy and isinstance(policy, EstimatesBehaviour):
        calibrated = calibrate(policy, part, config, num_rows=num_rows)
    count = torch.from_numpy(trained_on.counts(num_rows))
    summary = ranking.relevance.summary(config)
    return Evaluation(
        relevance=summary,
        notes=_threshold_notes(part, config) if summary.with_relevant and not summary.with_liked else (),
        short_lists=int((ranking.items == PAD).any(dim=1).sum()),
        metrics=ranking_metrics(ranking, config, num_rows=num_rows, count=count),
        estimate=estimate,
        behaviour=calibrated,
    )


def _threshold_notes(part: LogPart, config: EvaluateConfig) -> tuple[str, ...]:
    """Of a `liked_at_least` that nothing in the part reaches."""
    log, rows = part.interactions, part.rows()
    largest = float(np.asarray(log.reward)[rows][np.asarray(log.used)[rows]].max(initial=-math.inf))
    if config.liked_at_least is None or largest >= config.liked_at_least:
        return ()
    least = f"liked_at_least {config.liked_at_least:g}"
    return (f"Metrics of liked items have no value: the largest reward is {largest:g}, below {least}.",)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = [
    "Calibration",
    "Evaluation",
    "LoggedPropensities",
    "Ranking",
    "Relevance",
    "RelevanceSummary",
    "short_lists_note",
    "calibrate",
    "count_propensities",
    "estimate_off_policy",
    "estimate_to_json",
    "evaluate",
    "held_out_log_pi",
    "metric_names",
    "metric_range",
    "rank",
    "ranking_metrics",
    "relevance",
    "states_at",
    "used_items",
    "user_values",
    "users_of",
]
