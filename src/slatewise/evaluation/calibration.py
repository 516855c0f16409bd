"""Whether β̂ means what it says: of the items that it gave a probability of 1 %, was one in a hundred shown?

Every pair (held-out state, item of the catalog) is one forecast, so a state makes N of them; they are counted into bins
by their probability and never held at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.config import EvaluateConfig
from slatewise.data import batches
from slatewise.log import FIRST_ITEM, LogPart
from slatewise.protocols import EstimatesBehaviour

BINS_PER_DECADE, DECADES = 3, 8
MOST_FORECASTS = 2_000_000_000
"""Pairs that are looked at; of a longer held-out part, users at even distances."""
AT_ONCE = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Forecasts of what is shown, by their probability."""

    predicted: tuple[float, ...]
    """Mean probability of the forecasts in each bin that has any, rising."""
    observed: tuple[float, ...]
    """Share of them that came true: the item was shown."""
    forecasts: tuple[int, ...]
    shown: int
    """Items shown, each as a single draw."""
    log_likelihood: float
    """Mean log β̂ of a shown item."""
    ece: float
    """Expected calibration error: Σ over bins |expected − observed shows| / shows, so twice the share of probability
    that lies in a wrong bin."""
    ece_by_chance: float
    """What the error would be, by the draws alone, for the true probabilities: √(2/π) Σ √(Σ p(1 − p)) / shows."""

    def to_json(self) -> dict[str, int | float | list[int] | list[float]]:
        """As JSON can hold it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def calibrate(
    policy: EstimatesBehaviour, part: LogPart, config: EvaluateConfig, *, num_rows: int
) -> Calibration | None:
    """Reliability of β̂ on a part that it did not learn from; None where nothing is held out.

    Args:
        policy: has learned β̂ on the training part.
        part: the held-out events.
        config: how much history the state reads, users at once.
        num_rows: rows of the item table.
    """
    if part.empty:
        return None
    step = max(1, math.ceil(part.num_events * (num_rows - FIRST_ITEM) / MOST_FORECASTS))
    users = part.users()[::step]
    bins = BINS_PER_DECADE * DECADES
    mass, spread, hits, count = (torch.zeros(bins, dtype=torch.float64) for _ in range(4))
    likelihood, draws = 0.0, 0
    for at in range(0, len(users), config.batch_size):
        windows = part.histories(users[at : at + config.batch_size], max_history=config.max_history)
        log = batches.trajectories(part.interactions, windows)
        with torch.inference_mode():
            state = policy.behaviour_states(log)[:, :-1][log.learn]
            slates, logged_by = log.slate[log.learn], log.policy_id[log.learn]
            share = max(1, AT_ONCE // num_rows)
            for begin in range(0, len(state), share):
                chunk = slice(begin, begin + share)
                slate = slates[chunk]
                log_beta = policy.log_behaviour(state[chunk], logged_by[chunk])
                real = slate >= FIRST_ITEM
                log_beta_shown = log_beta.gather(1, slate.clamp(min=FIRST_ITEM))
                likelihood += float(log_beta_shown[real].double().sum())
                draws += int(real.sum())
                # a slate of K items is K draws from the same probabilities
                times = real.sum(dim=1, keepdim=True).expand(-1, num_rows - FIRST_ITEM).double().flatten()
                chance = log_beta[:, FIRST_ITEM:].exp().double().flatten()
                place = _bin(chance)
                mass += torch.bincount(place, weights=times * chance, minlength=bins)
                spread += torch.bincount(place, weights=times * chance * (1 - chance), minlength=bins)
                count += torch.bincount(place, weights=times, minlength=bins)
                hits += torch.bincount(_bin(log_beta_shown[real].exp().double()), minlength=bins)
    if draws == 0:
        return None
    some_bins = count > 0
    return Calibration(
        predicted=tuple((mass / count)[some_bins].tolist()),
        observed=tuple((hits / count)[some_bins].tolist()),
        forecasts=tuple(int(number) for number in count[some_bins]),
        shown=draws,
        log_likelihood=likelihood / draws,
        ece=float((mass - hits).abs().sum() / draws),
        ece_by_chance=float(math.sqrt(2 / math.pi) * spread.sqrt().sum() / draws),
    )


def _bin(chance: Float[Tensor, " F"]) -> Tensor:
    """Bins of equal width on the logarithm; the last ends at 1, whatever is below all of them goes into the first."""
    place = (torch.log10(chance.clamp(min=1e-30)) + DECADES) * BINS_PER_DECADE
    return place.floor().long().clamp(0, BINS_PER_DECADE * DECADES - 1)
