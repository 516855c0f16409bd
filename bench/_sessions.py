"""Sessions over a catalog of any size, for benches: items in topics, topics of unequal use, users of few topics."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.types import Trajectories, used_at_once

TOPIC = 500
"""Items of one topic."""


def catalog(num_items: int) -> Catalog:
    """Items named by their number, about which nothing else is known."""
    rows = num_items + FIRST_ITEM
    return Catalog(
        vocabulary=Vocabulary(names=pa.array(np.arange(num_items).astype(str))),
        text=("",) * rows,
        group=np.zeros(rows, np.int64),
        group_names=("",),
        features=np.zeros((rows, 0), np.float32),
    )


def sessions(num_items: int, *, users: int, burn_in: int, steps: int, seed: int) -> Trajectories:
    """One item shown, used and rewarded a step: every position teaches both heads, the most work there can be.

    A session keeps to three topics; inside a topic the n-th item is used in proportion to 1 / n.

    Args:
        num_items: N.
        users: sessions of the batch.
        burn_in: steps that only move the state.
        steps: steps to learn from.
        seed: of this batch.
    """
    generator = Generator().manual_seed(seed)
    length = burn_in + steps
    item = _items(num_items, users, length, generator)
    yes, no = torch.ones(users, length, dtype=torch.bool), torch.zeros(users, length, dtype=torch.bool)
    last = no.clone()
    last[:, -1] = True
    learn = yes.clone()
    learn[:, :burn_in] = False
    number = torch.arange(users * length).view(users, length)
    time = number % length * 60_000_000
    nothing, reward = torch.zeros(users, length, 1), torch.ones(users, length, 1)
    return Trajectories(
        event_id=number,
        policy_id=torch.zeros_like(number),
        user=number // length,
        time=time,
        terminated=last,
        truncated=no,
        slate=item.unsqueeze(2),
        logp=nothing,
        logp_known=no,
        reward=reward,
        cost=nothing,
        **used_at_once(yes.unsqueeze(2), time=time, reward=reward),
        mask=yes,
        learn=learn,
        context=torch.zeros(users, length + 1, 0),
    )


def _items(num_items: int, users: int, length: int, generator: Generator) -> Tensor:
    size = min(TOPIC, num_items)
    topics = num_items // size
    own = torch.randint(0, topics, (users, 3), generator=generator)
    topic = own.gather(1, torch.randint(0, 3, (users, length), generator=generator))
    # inverse of the running sum of 1 / n, which is close to a logarithm
    place = torch.expm1(torch.rand(users, length, generator=generator) * np.log(size + 1)).long().clamp(max=size - 1)
    return topic * size + place + FIRST_ITEM
