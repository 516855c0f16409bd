"""The lists of a batch: how they were drawn, what they earned and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM
from slatewise.methods.fcpo.drawn_lists import Drawn, RowGaussians, RowSoftmaxes
from slatewise.methods.fcpo.gaussian_lists import GaussianListPolicy
from slatewise.ops import list_rows
from slatewise.ops.returns import discounted_returns
from slatewise.ops.shown_rows import at_steps
from slatewise.types import Trajectories


@dataclass(frozen=True, kw_only=True)
class ListBatch:
    """P lists that were shown, under the distribution that they were drawn from."""

    trajectories: Trajectories
    steps: Bool[Tensor, "B T"]
    """Where a list was shown that may teach."""
    slate: Int[Tensor, "P K"]
    state: Float[Tensor, "P D"]
    """Before each list; no gradient."""
    outputs: Float[Tensor, "P K E2"]
    """[μ ; log σ] of the head, with the graph that leads to the weights."""
    drawn: Drawn
    sampled_users: slice
    """H is a mean over whole rows of the batch, so that only those have to be encoded for a product with it."""
    returns: Mapping[str, Float[Tensor, "P K1"]]
    """"reward" and "cost" of each slot; in the last column, the return after the list."""
    mean_reward: float
    """Of a list."""
    mean_cost: float
    """Of an item shown."""

    @property
    def slot_mask(self) -> Bool[Tensor, "P K"]:
        """True where a slot holds an item."""
        return self.slate >= FIRST_ITEM


def check_slates(slate: Int[Tensor, "B T K"], *, num_rows: int, slate_size: int) -> None:
    """Refuse slates that a policy could not show.

    Args:
        slate: item numbers.
        num_rows: rows of the policy's item table.
        slate_size: most slots of its lists.

    Raises:
        InputError: lists longer than that, or items that the catalog does not have.
    """
    size, highest = slate.shape[2], int(slate.max()) if slate.numel() else 0
    if highest >= num_rows:
        raise input_error(
            f"a slate shows item number {highest}, the catalog ends at {num_rows - 1}",
            advice="Number the items of the log by the policy's own catalog.",
        )
    if size > slate_size:
        raise input_error(
            f"the log shows lists of {size}, slate_size is {slate_size}",
            advice=f"Set method.slate_size to {size} or more.",
        )


def read_lists(
    policy: GaussianListPolicy,
    trajectories: Trajectories,
    steps: Bool[Tensor, "B T"],
    *,
    rows: Float[Tensor, "B T K E"] | None,
    reward: Float[Tensor, "B T K"],
    item_cost: Float[Tensor, "B T K"],
    gamma: float,
    fisher_states: int,
) -> ListBatch:
    """The lists of a batch.

    Args:
        policy: that drew them.
        trajectories: where they were shown.
        steps: whose lists are read.
        rows: W where the policy drew from its Gaussian; None = a softmax for each row of μ.
        reward: of every slot; that of an empty slot counts for nothing.
        item_cost: of the item in every slot.
        gamma: γ.
        fisher_states: states that H is a mean over, about.
    """
    mask = (trajectories.mask.unsqueeze(2) & (trajectories.slate >= FIRST_ITEM)).float()
    reward = reward * mask
    cost = item_cost * mask / mask.sum(dim=2, keepdim=True).clamp(min=1)
    slate = trajectories.slate[steps]
    state = at_steps(policy.encoder(trajectories), steps)
    outputs = policy.head.both(state, slate.shape[1])
    users = slice(None, None, -(-len(slate) // fisher_states))
    users = users if bool(steps[users].any()) else slice(None)
    sample = torch.zeros_like(steps)
    sample[users] = steps[users]
    ends = trajectories.terminated | trajectories.truncated
    return ListBatch(
        trajectories=trajectories,
        steps=steps,
        slate=slate,
        state=state.detach(),
        outputs=outputs,
        drawn=_drawn_lists(policy, outputs.detach(), trajectories, steps, rows=rows, sample=sample[steps]),
        sampled_users=users,
        returns={
            name: _slot_returns(value, gamma, ends)[steps] for name, value in (("reward", reward), ("cost", cost))
        },
        mean_reward=float(reward[steps].sum(dim=1).mean()),
        mean_cost=float(cost[steps].sum(dim=1).mean()),
    )


def _drawn_lists(
    policy: GaussianListPolicy,
    old: Float[Tensor, "P K E2"],
    trajectories: Trajectories,
    steps: Bool[Tensor, "B T"],
    *,
    rows: Float[Tensor, "B T K E"] | None,
    sample: Bool[Tensor, " P"],
) -> Drawn:
    """The distribution that the lists were drawn from: W itself, or a softmax for each row of μ."""
    slate = trajectories.slate[steps]
    if rows is not None:
        return RowGaussians(old, rows[steps], slate, sample)
    vectors = policy.vectors().detach() / policy.temperature
    candidates = None if trajectories.candidates is None else trajectories.candidates[:, :-1][steps]
    open_items = None if candidates is None else list_rows.open_columns(candidates, len(vectors))
    return RowSoftmaxes(old, vectors, slate, open_items, sample)


def _slot_returns(value: Float[Tensor, "B T K"], gamma: float, ends: Bool[Tensor, "B T"]) -> Float[Tensor, "B T K1"]:
    """The value of each slot, and in the last column the discounted return after its list."""
    total = value.sum(dim=2)
    later = discounted_returns(total, gamma, ends=ends) - total
    return torch.cat([value, later.unsqueeze(2)], dim=2)
