"""Stochastic policies for catalogs of any size: slates drawn without replacement at a cost that hardly grows with N.

Drawing independently from p(a|s) and skipping what was drawn before is the same as drawing without replacement, so a
slate costs a few look-ups in a cumulative table, and its chain-rule factors are p(a_k) / (1 − Σ_{j<k} p(a_j)).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD
from slatewise.ops.history import uses_of
from slatewise.policies.slate_policy import SlatePolicy
from slatewise.protocols import StateEncoder
from slatewise.types import Observation, SlateRequest, Slates, Trajectories, Uses

ROUNDS = 6
DENSE_ROWS = 256


class TopicHistory:
    """Encoder without weights: how often each topic was used, old uses fading by `decay` per step.

    It is for environments, which call `step` once for every step they take, and whose items are used when shown.
    """

    def __init__(self, topic: Int[Tensor, " rows"], num_topics: int, *, decay: float = 0.9) -> None:
        self.width = num_topics
        self.decay = decay
        self._topic = topic

    def __call__(self, trajectories: Trajectories) -> Float[Tensor, "B S G"]:
        """Fading counts before each step and after the last."""
        states = [self.initial(len(trajectories.mask))]
        for t in range(trajectories.mask.shape[1]):
            counts = self.step(states[-1], uses_of(trajectories.step(t)))
            states.append(torch.where(trajectories.mask[:, t].unsqueeze(1), counts, states[-1]))
        return torch.stack(states, dim=1)

    def initial(self, num_users: int) -> Float[Tensor, "B G"]:
        """No counts."""
        return torch.zeros(num_users, self.width)

    def step(self, carry: Float[Tensor, "B G"], uses: Uses) -> Float[Tensor, "B G"]:
        """Counts after one more step, in which these were the uses."""
        topic = self._topic[uses.item]
        counts = torch.zeros_like(carry).scatter_add_(1, topic, uses.present.to(carry.dtype))
        return self.decay * carry + counts

    def state(self, carry: Float[Tensor, "B G"], observation: Observation) -> Float[Tensor, "B G"]:
        """The counts."""
        del observation
        return carry.clone()


class TopicDraws(SlatePolicy):
    """p(a|s) = t_g(s) p(a|g) for an item a of topic g: first a topic, then an item of it, both at random.

    t_g(s) ∝ counts_g + prior; one topic that holds everything gives the same probabilities to everybody.
    """

    def __init__(
        self,
        encoder: StateEncoder,
        topic: Int[Tensor, " rows"],
        weight: Float[Tensor, " rows"],
        *,
        num_topics: int,
        prior: float = 0.1,
    ) -> None:
        """Build the tables.

        Args:
            encoder: its state holds a count per topic (any width where there is one topic).
            topic: of every row of the item table, 0 … num_topics − 1; reserved rows count for nothing.
            weight: p(a|g) up to a factor per topic, above 0 for real items.
            num_topics: G; a topic may be empty.
            prior: added to every count, above 0.
        """
        self.encoder = encoder
        self.num_rows = len(topic)
        self._topic = topic
        self._groups = num_topics
        self._prior = prior
        real = torch.arange(FIRST_ITEM, len(topic))
        mass = torch.zeros(num_topics, dtype=torch.float64).index_add_(0, topic[real], weight[real].double())
        self._filled = mass > 0
        share = weight.double() / mass[topic].clamp_min(torch.finfo(torch.float64).tiny)
        share[:FIRST_ITEM] = 0.0
        self._share = share
        self._order = real[torch.argsort(topic[real], stable=True)]
        # topic g owns the stretch from g to g + 1 of the cumulative table; empty topics leave a hole
        number = torch.bincount(topic[real], minlength=num_topics)
        self._end = number.cumsum(0)
        self._start = self._end - number
        inside = share[self._order].cumsum(0)
        sum_before = torch.cat([inside.new_zeros(1), inside])[self._start[topic[self._order]]]
        self._table = inside - sum_before + topic[self._order]

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log p(a|s) of one draw; −inf for reserved numbers."""
        return self._probability(self._preference(state), items).log().float()

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """Slates drawn without replacement, in the order of the draws.

        Raises:
            InputError: candidates, allowed items or an exploration given (these policies draw from the whole catalog by
                themselves), or no generator.
        """
        self._refuse(request)
        k, exclude = request.k, request.exclude
        if generator is None:
            raise input_error("a slate cannot be drawn without a generator", advice="Pass generator=torch.Generator().")
        preference = self._preference(state)
        banned = exclude if exclude is not None else torch.zeros(len(state), 0, dtype=torch.int64)
        slate = torch.zeros(len(state), k, dtype=torch.int64)
        open_ = torch.arange(len(state))
        for _ in range(ROUNDS):
            unavailable = torch.cat([banned[open_], slate[open_]], dim=1)
            drawn = self._draw(preference[open_], k + 8, generator)
            fresh = ~(drawn.unsqueeze(2) == unavailable.unsqueeze(1)).any(dim=2) & ~repeats_earlier(drawn)
            slate[open_] = _filled_up(slate[open_], drawn.masked_fill(~fresh, PAD))
            open_ = open_[slate[open_, -1] == PAD]
            if not len(open_):
                break
        for rows in torch.split(open_, DENSE_ROWS):
            slate[rows] = self._draw_rest(preference[rows], banned[rows], slate[rows], generator)
        return Slates(items=slate, logp=self._chain(preference, slate, banned))

    def slate_factors(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """Log-propensity factor per position; −inf for what could not be drawn there."""
        self._refuse(request)
        exclude = request.exclude
        banned = exclude if exclude is not None else torch.zeros(len(state), 0, dtype=torch.int64)
        again = (slate.unsqueeze(2) == banned.unsqueeze(1)).any(dim=2) | repeats_earlier(slate)
        logp = self._chain(self._preference(state), slate, banned)
        return logp.masked_fill(again & (slate != PAD), float("-inf"))

    def state_dict(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is learned."""

    def _preference(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B G"]:
        if self._groups == 1:
            return torch.ones(len(state), 1, dtype=torch.float64)
        counts = (state.double() + self._prior) * self._filled
        return counts / counts.sum(dim=1, keepdim=True)

    def _probability(self, preference: Float[Tensor, "B G"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        return preference.gather(1, self._topic[items]) * self._share[items]

    def _draw(self, preference: Float[Tensor, "B G"], count: int, generator: Generator) -> Int[Tensor, "B A"]:
        """Independent draws."""
        cumulative = preference.cumsum(dim=1)
        noise = torch.rand(2, len(preference), count, dtype=torch.float64, generator=generator)
        topic = torch.searchsorted(cumulative, noise[0] * cumulative[:, -1:], right=True).clamp(max=self._groups - 1)
        place = torch.searchsorted(self._table, topic + noise[1], right=True)
        # rounding may lead to the next stretch, never further
        return self._order[torch.minimum(torch.maximum(place, self._start[topic]), self._end[topic] - 1)]

    def _draw_rest(
        self,
        preference: Float[Tensor, "B G"],
        banned: Int[Tensor, "B X"],
        slate: Int[Tensor, "B K"],
        generator: Generator,
    ) -> Int[Tensor, "B K"]:
        """The empty places of slates for which skipping takes too long: over all items, by Gumbel noise."""
        everything = torch.arange(len(self._share)).expand(len(slate), -1)
        weight = self._probability(preference, everything)
        weight = weight.scatter(1, torch.cat([banned, slate], dim=1), 0.0)
        noise = torch.empty_like(weight).exponential_(generator=generator).log_().neg_()
        value, item = torch.topk(weight.log() + noise, slate.shape[1], dim=1)
        return _filled_up(slate, item.masked_fill(value == float("-inf"), PAD))

    def _chain(
        self, preference: Float[Tensor, "B G"], slate: Int[Tensor, "B K"], banned: Int[Tensor, "B X"]
    ) -> Float[Tensor, "B K"]:
        chance = self._probability(preference, slate)
        excluded_mass = (
            self._probability(preference, banned).masked_fill(repeats_earlier(banned), 0.0).sum(dim=1, keepdim=True)
        )
        left = torch.maximum(1 - excluded_mass - (chance.cumsum(dim=1) - chance), chance)
        exhausted = (slate == PAD) & (left < 1e-12)
        return (chance / left.clamp_min(torch.finfo(torch.float64).tiny)).log().masked_fill(exhausted, 0.0).float()

    def _refuse(self, request: SlateRequest) -> None:
        if any(part is not None for part in (request.candidates, request.allowed, request.exploration)):
            raise input_error(
                "this policy draws from the whole catalog, with probabilities of its own",
                advice="Leave candidates and exploration out.",
            )


def repeats_earlier(items: Int[Tensor, "B A"]) -> Bool[Tensor, "B A"]:
    """True where the same number stands further left."""
    ordered, place = torch.sort(items, dim=1, stable=True)
    repeat = torch.zeros_like(items, dtype=torch.bool)
    return repeat.scatter_(1, place[:, 1:], ordered[:, 1:] == ordered[:, :-1])


def _filled_up(slate: Int[Tensor, "B K"], additions: Int[Tensor, "B A"]) -> Int[Tensor, "B K"]:
    """Slates with their empty places at the end filled by the items of `more` that are not 0, in order."""
    both = torch.cat([slate, additions], dim=1)
    order = torch.argsort((both == PAD).to(torch.int8), dim=1, stable=True)[:, : slate.shape[1]]
    return both.gather(1, order)
