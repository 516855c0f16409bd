"""A small catalog and a small log that components are checked on: made up, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, PAD, Catalog, Interactions, Vocabulary
from slatewise.types import Trajectories, used_at_once

MINUTE = 60_000_000
START = 1_700_000_000_000_000
SESSION = 3
"""Steps of a session in the log."""


def toy_catalog(num_items: int = 20) -> Catalog:
    """Items "i0" … with titles, three groups and two features.

    Args:
        num_items: real items, ≥ 1.
    """
    rows = num_items + FIRST_ITEM
    number = np.arange(rows)
    features = np.stack([np.cos(number), np.sin(number)], axis=1).astype(np.float32)
    features[:FIRST_ITEM] = 0.0
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"i{n}" for n in range(num_items)], pa.string())),
        text=("",) * FIRST_ITEM + tuple(f"Item {n}" for n in range(num_items)),
        group=np.where(number < FIRST_ITEM, 0, number % 3 + 1),
        group_names=("", "even", "more", "odd"),
        features=features,
    )


def toy_log(
    catalog: Catalog, *, users: int = 8, steps: int = 6, slate_size: int = 3, context_width: int = 2, seed: int = 0
) -> Trajectories:
    """Slates drawn at random, shown to users of two tastes.

    Every user uses the first item of the slate whose number is even (odd), if there is one, and is paid 1 to 5;
    sessions have three steps; the last two users are shorter, so that there is padding. Propensities are known: slates
    are drawn without replacement, all items alike. An item of the first group costs 1.

    Args:
        catalog: must have at least `slate_size` items.
        users: B.
        steps: T.
        slate_size: K.
        context_width: X.
        seed: of everything drawn.
    """
    generator = Generator().manual_seed(seed)
    shape = (users, steps)
    order = torch.rand(*shape, catalog.num_items, generator=generator).argsort(dim=2)
    slate = order[:, :, :slate_size] + FIRST_ITEM
    user = torch.arange(users).unsqueeze(1).expand(shape)
    liked = slate % 2 == (user % 2).unsqueeze(2)
    pay = torch.randint(1, 6, shape, generator=generator).float()
    position = torch.arange(slate_size)
    used = liked & (position == liked.int().argmax(dim=2, keepdim=True))
    reward = torch.where(used, pay.unsqueeze(2), 0.0)
    step = torch.arange(steps).expand(shape)
    time = START + MINUTE * step
    terminated = step % SESSION == SESSION - 1
    log = Trajectories(
        event_id=torch.arange(users * steps).view(shape),
        policy_id=torch.ones(shape, dtype=torch.int64),
        user=user.clone(),
        time=time,
        terminated=terminated,
        truncated=(step == steps - 1) & ~terminated,
        slate=slate,
        logp=-torch.log(catalog.num_items - position.float()).expand(*shape, slate_size).clone(),
        logp_known=torch.ones(shape, dtype=torch.bool),
        reward=reward,
        cost=torch.from_numpy(catalog.group == 1)[slate].float(),
        **used_at_once(used, time=time, reward=reward),
        mask=torch.ones(shape, dtype=torch.bool),
        learn=torch.ones(shape, dtype=torch.bool),
        context=torch.randn(users, steps + 1, context_width, generator=generator),
    )
    present = torch.ones(shape, dtype=torch.bool)
    present[-1, steps // 2 :] = False
    present[-2:, steps - 1 :] = False
    return without_steps(log, ~present)


def as_interactions(log: Trajectories) -> Interactions:
    """The steps of some trajectories as the columns of a log, one user a row."""
    mask = log.mask.numpy()
    shown = log.slate.numpy()[mask]
    rows = shown != PAD

    def events(values: Tensor) -> NDArray[Any]:
        return np.asarray(values.numpy()[mask])

    def items(values: Tensor) -> NDArray[Any]:
        return np.asarray(values.numpy()[mask][rows])

    return Interactions(
        user_offsets=np.append(0, mask.sum(axis=1).cumsum()),
        event_offsets=np.append(0, rows.sum(axis=1).cumsum()),
        event_id=events(log.event_id),
        policy_id=events(log.policy_id),
        time=events(log.time),
        session_end=events(log.terminated),
        context=events(log.context[:, :-1]),
        item=items(log.slate),
        reward=items(log.reward),
        cost=items(log.cost),
        logp=items(log.logp),
        logp_known=np.repeat(events(log.logp_known), rows.sum(axis=1)),
        used=items(log.used),
        used_time=items(log.used_time),
        use_reward=items(log.use_reward),
    )


def without_steps(log: Trajectories, removed: Bool[Tensor, "B T"]) -> Trajectories:
    """The log with some steps masked: all their fields are those of padding."""
    return log.replace(mask=log.mask & ~removed, learn=log.learn & ~removed).pad()


def with_noise_in_padding(log: Trajectories, *, num_rows: int, seed: int = 0) -> Trajectories:
    """The log with numbers at its masked steps that no one may read.

    Args:
        log: any log.
        num_rows: item numbers below this are written into the padding.
        seed: of the noise.
    """
    generator = Generator().manual_seed(seed)
    masked = ~log.mask.unsqueeze(2)
    items = torch.randint(FIRST_ITEM, num_rows, log.slate.shape, generator=generator)
    used = torch.randint(0, 2, log.used.shape, generator=generator).bool()
    pay = torch.randint(1, 6, log.reward.shape, generator=generator).float()
    return log.replace(
        slate=torch.where(masked, items, log.slate),
        used=torch.where(masked, used, log.used),
        used_time=torch.where(masked, pay.long(), log.used_time),
        use_reward=torch.where(masked, pay, log.use_reward),
        reward=torch.where(masked, pay, log.reward),
        cost=torch.where(masked, pay, log.cost),
        logp=torch.where(masked, -pay, log.logp),
    )
