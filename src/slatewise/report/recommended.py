"""What policies make of the reported part: probabilities of its shown items, and exposure of the catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from slatewise import evaluation
from slatewise.config import EvaluateConfig
from slatewise.data.prepared import Dataset
from slatewise.evaluation.off_policy import held_out_steps
from slatewise.log import FIRST_ITEM, LogPart
from slatewise.protocols import Policy
from slatewise.report.page import Exposure, Histogram
from slatewise.stats import Measurement


def propensity_histogram(
    policy: Policy, dataset: Dataset, part: LogPart, settings: EvaluateConfig, *, label: str
) -> Histogram | None:
    """How probable the items of a part were to a policy, each drawn once in the state before its event.

    Args:
        policy: the policy.
        dataset: the log and its catalog.
        part: whose shown items are counted; in a log of uses these are the used ones.
        settings: how much history a state reads.
        label: name of the policy on the page.
    """
    real = held_out_steps(part).slate.numpy() >= FIRST_ITEM
    probability = np.exp(evaluation.held_out_log_pi(policy, part, settings).double().numpy()[real])
    drawn = probability[probability > 0]
    if not len(drawn):
        return None
    # π = 1 lies on the last edge, and rounding may put it above
    edges = np.logspace(min(math.floor(math.log10(drawn.min())), -1), 0, num=25)
    counts, _ = np.histogram(drawn.clip(max=1.0), bins=edges)
    items = "shown items" if dataset.kind == "impressions" else "used items"
    never = len(probability) - len(drawn)
    left_out = f" {never:,} of {len(probability):,} had probability 0 and are not drawn." if never else ""
    return Histogram(
        title=f"How probable the {items} of the part are to {label}",
        quantity=f"π(item | state), one draw from all {dataset.catalog.num_items:,} items",
        counted=items,
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
        log_axis=True,
        note=f"A uniform draw would be at {1 / dataset.catalog.num_items:.3g}.{left_out}",
    )


def exposure(
    policies: Mapping[str, Policy],
    measured: Mapping[str, Mapping[str, Measurement]],
    part: LogPart,
    *,
    settings: Mapping[str, EvaluateConfig],
    num_rows: int,
) -> tuple[Exposure, ...]:
    """How each run spreads its recommendations over the catalog.

    Args:
        policies: by label.
        measured: by label, the metrics of the evaluation by their names.
        part: whose users get lists.
        settings: by label; of the same length of lists.
        num_rows: rows of the item table.
    """
    shares = []
    for label, policy in policies.items():
        ranking = evaluation.rank(policy, part, settings[label], num_rows=num_rows)
        count = torch.bincount(ranking.items.flatten(), minlength=num_rows)[FIRST_ITEM:].double()
        k = max(settings[label].k)
        shares.append(
            Exposure(
                name=label,
                coverage=measured[label][f"coverage@{k}"].value,
                gini=measured[label][f"gini@{k}"].value,
                lorenz=_lorenz(count.numpy()),
            )
        )
    return tuple(shares)


def _lorenz(count: Float[np.ndarray, " N"]) -> tuple[float, ...]:
    share = np.concatenate([[0.0], np.cumsum(np.sort(count))]) / max(count.sum(), 1.0)
    at = np.linspace(0, len(count), 51)
    return tuple(float(value) for value in np.interp(at, np.arange(len(share)), share))
