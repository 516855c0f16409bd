"""Policies that look into an environment: what a table's reference lines are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import input_error
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Env


class Privileged(RankedPolicy):
    """The best items by scores that the environment itself gives, users in its own order."""

    def __init__(self, env: Env, scores: Callable[[], Float[Tensor, "B A"]]) -> None:
        """Look into an environment.

        Args:
            env: the environment it will serve.
            scores: one number per user and candidate, in the order of the env's candidates; per row of the item table
                where the env has none.
        """
        super().__init__(StatelessEncoder(), env.catalog.num_rows)
        self._num_users = env.num_users
        self._scores = scores

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """What the env says now.

        Raises:
            InputError: other rows than all users of the env, or other candidates than its own.
        """
        values = self._scores()
        if len(state) != self._num_users:
            raise input_error(f"this policy serves all {self._num_users} users of its env at once, not {len(state)}")
        num_scores = self.num_rows if items is None else items.shape[1]
        if values.shape[1] != num_scores:
            raise input_error(f"the env has {values.shape[1]} scores a user, {num_scores} candidates were given")
        return values.to(torch.float32)
