"""Policies that FCPO's runs put beside it: rows drawn from the Gaussian, a re-ranker, the most liked items."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.methods import fcpo
from slatewise.policies.listed import ListedPolicy
from slatewise.protocols import StateEncoder
from slatewise.types import SlateRequest, Slates, Trajectories


class RowActor:
    """Serves by W drawn from the Gaussian, and keeps every W; no propensity is known."""

    def __init__(self, policy: fcpo.Policy) -> None:
        self.policy = policy
        self.encoder: StateEncoder = policy.encoder
        self._rows: list[Tensor] = []

    def recommend(
        self, state: Float[Tensor, "B D"], request: SlateRequest, *, generator: Generator | None = None
    ) -> Slates:
        """Draw W, give its list; W is drawn whatever `request.exploration` says."""
        assert generator is not None
        assert request.fixed is None
        rows, items = self.policy.draw(state, request, generator=generator)
        self._rows.append(rows)
        return Slates(items=items, logp=torch.zeros(items.shape))

    def drawn_rows(self) -> Float[Tensor, "B T K E"]:
        """The W of all steps since the last call."""
        rows, self._rows = torch.stack(self._rows, dim=1), []
        return rows

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """At W = μ."""
        return self.policy.log_pi(state, items)

    def log_prob(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """At W = μ."""
        return self.policy.log_prob(state, slate, request)

    def state_dict(self) -> dict[str, Any]:
        """The policy's."""
        return self.policy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """The policy's."""
        return self.policy.load_state_dict(state)


class RowLearner:
    """FCPO learning from the density of the rows that its actor drew: the paper's policy gradient."""

    single_pass = False

    def __init__(self, learner: fcpo.Learner) -> None:
        self.learner = learner
        self.policy = RowActor(learner.policy)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on what was played since the last one."""
        return self.learner.update(trajectories, self.policy.drawn_rows())

    def state_dict(self) -> dict[str, Tensor]:
        """The learner's."""
        return self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put it back."""
        self.learner.load_state_dict(state)


class Reranked(ListedPolicy):
    """Another policy's rows with a price on popular items: the fair re-ranker, drawn in the same way."""

    def __init__(self, policy: fcpo.Policy, popular: Bool[Tensor, " rows"], price: float) -> None:
        super().__init__(policy.encoder, policy.item, temperature=policy.temperature)
        self.policy = policy
        self.taken_off = price * popular.float()

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """The other policy's."""
        return self.policy.rows(state, k)

    def logits(self, rows: Float[Tensor, "B K E"]) -> Float[Tensor, "B K N"]:
        """Less the price."""
        return self.policy.logits(rows) - self.taken_off


class MostLiked(ListedPolicy):
    """The same lists for everybody: the most liked items, popular ones in no more places than a limit allows."""

    def __init__(
        self,
        policy: fcpo.Policy,
        likes: Float[Tensor, " rows"],
        popular: Bool[Tensor, " rows"],
        limit: float | None,
        slate_size: int,
    ) -> None:
        super().__init__(policy.encoder, policy.item, temperature=1.0)
        places = slate_size if limit is None else int(limit * slate_size + 1e-9)
        first = (torch.arange(slate_size) < places).unsqueeze(1)
        # a place among the first prefers popular items, a later one the others; either takes what is left
        preferred = first if limit is None else first == popular
        self.scores = likes + preferred * (likes.max() + 1)

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """Zeros: lists do not depend on the state."""
        return torch.zeros(len(state), k, self.item.weight.shape[1])

    def logits(self, rows: Float[Tensor, "B K E"]) -> Float[Tensor, "B K N"]:
        """Likes of every item, by place."""
        return self.scores[: rows.shape[1]].expand(len(rows), -1, -1).clone()
