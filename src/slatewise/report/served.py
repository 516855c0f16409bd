"""What the served policy recommends: probabilities of held-out items, exposure of the catalog, and examples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from slatewise import evaluation
from slatewise.artifact import Artifact
from slatewise.config import EvaluateConfig
from slatewise.data.prepared import Dataset
from slatewise.evaluation import metrics
from slatewise.log import FIRST_ITEM, LogPart
from slatewise.protocols import Policy
from slatewise.report.page import Example, Exposure, Histogram, Recommended, Used
from slatewise.types import SlateRequest

LAST_USED = 8


def propensity_histogram(serving: Artifact, part: LogPart, settings: EvaluateConfig) -> Histogram | None:
    """How probable the held-out items were to a policy."""
    logp = evaluation.held_out_log_pi(serving.policy, part, settings).numpy()
    probability = np.exp(logp[np.isfinite(logp) & (logp < 0)])
    if not len(probability):
        return None
    edges = np.logspace(math.floor(math.log10(probability.min())), 0, num=25)
    counts, _ = np.histogram(probability, bins=edges)
    return Histogram(
        title="How probable the held-out items were to the served policy",
        quantity="π(item | state), one draw",
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
        log_axis=True,
        note=f"A uniform draw would be at {1 / serving.catalog.num_items:.2g}.",
    )


def exposure(
    policies: Mapping[str, Policy], part: LogPart, settings: EvaluateConfig, *, num_rows: int
) -> tuple[Exposure, ...]:
    """How each run spreads its recommendations over the catalog.

    Args:
        policies: by label.
        part: whose users get lists.
        settings: length of the lists.
        num_rows: rows of the item table.
    """
    shares = []
    for label, policy in policies.items():
        ranking = evaluation.rank(policy, part, settings)
        count = torch.bincount(ranking.items.flatten(), minlength=num_rows)[FIRST_ITEM:].double()
        shares.append(
            Exposure(
                name=label,
                coverage=metrics.coverage(count.float()),
                gini=metrics.gini(count.float()),
                lorenz=_lorenz(count.numpy()),
            )
        )
    return tuple(shares)


def _lorenz(count: Float[np.ndarray, " N"]) -> tuple[float, ...]:
    share = np.concatenate([[0.0], np.cumsum(np.sort(count))]) / max(count.sum(), 1.0)
    at = np.linspace(0, len(count), 51)
    return tuple(float(value) for value in np.interp(at, np.arange(len(share)), share))


def examples(
    serving: Artifact, dataset: Dataset, part: LogPart, settings: EvaluateConfig, *, number: int
) -> tuple[Example, ...]:
    """Users spread evenly over the log, with what they used last and the slate of a policy.

    Args:
        serving: the policy.
        dataset: the log and its catalog.
        part: what is held out.
        settings: length of the lists.
        number: how many users.
    """
    first, last = part.first, part.last
    users = np.nonzero((last > first) & (first > 0))[0]
    if not len(users):
        return ()
    # evenly over the user numbers: nobody chose the ones that look good
    users = users[np.linspace(0, len(users) - 1, num=min(number, len(users))).astype(int)]
    log, catalog = dataset.interactions, dataset.catalog
    used, state = evaluation.states_at(serving.policy, log, users, first[users], max_history=settings.max_history)
    generator = torch.Generator().manual_seed(0)
    k = max(settings.k)
    exclude = used if settings.exclude_seen else None
    with torch.inference_mode():
        slates = serving.policy.recommend(state, SlateRequest(k=k, exclude=exclude), generator=generator)
        single = serving.policy.log_pi(state, slates.items).exp()
    held_item, held_reward = evaluation.used_items(log, users, first[users], last[users])
    used_item, used_reward = evaluation.used_items(log, users, np.maximum(first[users] - LAST_USED, 0), first[users])
    shown = []
    for row, user in enumerate(users):
        later = dict(zip(held_item[row].tolist(), held_reward[row].tolist(), strict=True))
        pairs = zip(used_item[row].tolist(), used_reward[row].tolist(), strict=True)
        history = [
            Used(title=catalog.title(item), reward=f"{reward:g}") for item, reward in pairs if item >= FIRST_ITEM
        ]
        shown.append(
            Example(
                user=dataset.users.name(int(user)),
                history=tuple(history),
                slate=tuple(
                    Recommended(
                        title=catalog.title(item),
                        propensity=chance,
                        outcome=f"held out, reward {later[item]:g}" if item in later else "",
                    )
                    for item, chance in zip(slates.items[row].tolist(), single[row].tolist(), strict=True)
                    if item >= FIRST_ITEM
                ),
                note="Newest last. The numbers beside our slate are π(item | state), one draw from the whole catalog.",
            )
        )
    return tuple(shown)
