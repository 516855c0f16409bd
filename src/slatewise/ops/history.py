"""The order in which a state reads what a user used, and how much of it each decision sees.

A use u of the item at position k of step e arrives at the time τ(u) and is read for the first time before the step

    a(u) = min {t > e : time(t) ≥ τ(u)},      or after the last step, if none is late enough

Uses sorted by (a, τ, step, position) are the history; the state before step t has read the #{u : a(u) ≤ t} first ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from slatewise.types import NEVER, History, Step, Trajectories, Uses


def history_of(trajectories: Trajectories) -> History:
    """The uses of every row in the order in which they arrived, and how many each decision reads."""
    used = trajectories.used & trajectories.mask.unsqueeze(2)
    if bool((used & (trajectories.used_time > trajectories.time.unsqueeze(2))).any()):
        order, count = _by_arrival(trajectories)
    else:
        # everything was used when it was shown: the order of the steps is that of the arrivals
        order, count = pushed_left(used.flatten(1)), nn.functional.pad(used.sum(dim=2).cumsum(dim=1), (1, 0))
    present = torch.arange(order.shape[1]) < count[:, -1:]

    def in_order(values: Shaped[Tensor, "B T K"]) -> Shaped[Tensor, "B L"]:
        return values.flatten(1).gather(1, order).masked_fill(~present, 0)

    uses = Uses(
        item=in_order(trajectories.slate),
        reward=in_order(trajectories.use_reward),
        time=in_order(trajectories.used_time),
        present=present,
    )
    return History(uses=uses, count=count)


def _by_arrival(trajectories: Trajectories) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B S"]]:
    """Where the uses of every row stand, sorted by (a, τ, step, position), and how many are read before each step."""
    arrival, time = arrivals(trajectories).flatten(1), trajectories.used_time.flatten(1)
    steps = trajectories.mask.shape[1]
    order = pushed_left(arrival <= steps)
    # two stable sorts, the less important key first; what is pushed left is in the order of steps and positions
    for key in (time, arrival):
        order = order.gather(1, torch.argsort(key.gather(1, order), dim=1, stable=True))
    number = torch.zeros(len(arrival), steps + 2, dtype=torch.int64)
    return order, number.scatter_add_(1, arrival, torch.ones_like(arrival)).cumsum(dim=1)[:, :-1]


def arrivals(trajectories: Trajectories) -> Int[Tensor, "B T K"]:
    """a(u) of every position: the first state that reads its use; T + 1 where nothing was used, or no state reads it.

    Where a step is masked, the state stays as it is: its uses have all arrived before the masked step.
    """
    batch, steps, places = trajectories.slate.shape
    used = trajectories.used & trajectories.mask.unsqueeze(2)
    following = torch.arange(1, steps + 1).view(1, -1, 1)
    time = decision_times(trajectories)
    on_time = trajectories.used_time <= time[:, 1:].unsqueeze(2)
    arrival = following.expand(batch, steps, places)
    if bool((used & ~on_time).any()):
        late = torch.searchsorted(time, trajectories.used_time.flatten(1)).view_as(arrival)
        arrival = torch.where(on_time, arrival, late)
    return arrival.masked_fill(~used, steps + 1)


def decision_times(trajectories: Trajectories) -> Int[Tensor, "B S"]:
    """Time of the decision that every state is for; at a masked step that of the next one, at the end `next_time`."""
    time = trajectories.time.masked_fill(~trajectories.mask, NEVER)
    end = trajectories.next_time
    end = time.new_full((len(time),), NEVER) if end is None else end
    return torch.cat([time, end.unsqueeze(1)], dim=1).flip(1).cummin(dim=1).values.flip(1)


def uses_of(step: Step) -> Uses:
    """What was used of one step, the earliest first; as many places as the user with the most uses needs."""
    time = step.used_time.masked_fill(~step.used, NEVER)
    order = pushed_left(step.used)
    if bool((time.gather(1, order).diff(dim=1) < 0).any()):
        order = torch.argsort(time, dim=1, stable=True)[:, : order.shape[1]]
    present = step.used.gather(1, order)
    return Uses(
        item=step.slate.gather(1, order).masked_fill(~present, 0),
        reward=step.use_reward.gather(1, order),
        time=step.used_time.gather(1, order),
        present=present,
    )


def pushed_left(marked: Bool[Tensor, "B N"]) -> Int[Tensor, "B L"]:
    """Columns of the marked entries of each row in their order, then others: L is the largest number of marked ones."""
    longest = int(marked.sum(dim=1).max()) if marked.numel() else 0
    return torch.argsort((~marked).to(torch.int8), dim=1, stable=True)[:, :longest]


def at_count(states: Float[Tensor, "B M D"], count: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
    """The state after the first `count` uses: states[b, count[b, t]].

    Args:
        states: before the first use and after each.
        count: as in History.
    """
    batch, length, width = states.shape
    row = count + torch.arange(0, batch * length, length, device=count.device).unsqueeze(1)
    # whole rows: the gradient of a gather would go through one number at a time
    return states.reshape(-1, width).index_select(0, row.flatten()).view(*count.shape, width)
