"""A log, as columns or as trajectories in memory → padded, masked batches of trajectories."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.log import Interactions, Windows
from slatewise.types import NEVER, Trajectories


def trajectories(interactions: Interactions, batch: Windows) -> Trajectories:
    """The events of some windows, left-aligned and padded to the longest.

    Rows that an event has fewer of than the longest event of the log are item 0.
    """
    offsets = np.asarray(interactions.user_offsets)
    length = batch.stop - batch.start
    steps = int(length.max(initial=0))
    column = np.arange(steps)
    mask = column < length[:, None]
    base = offsets[batch.user] + batch.start
    event = np.where(mask, base[:, None] + column, 0)
    context_event = np.minimum(base[:, None] + np.arange(steps + 1), np.maximum(interactions.num_events - 1, 0))

    row_start = np.asarray(interactions.event_offsets)[event]
    row_count = np.asarray(interactions.event_offsets)[event + 1] - row_start if mask.size else row_start
    slots = np.arange(interactions.slate_size)
    filled = (slots < row_count[..., None]) & mask[..., None]
    row = np.where(filled, row_start[..., None] + slots, 0)
    last_event = event + 1 == offsets[batch.user + 1][:, None]
    ended = _column(interactions.session_end, event)
    following = base + length
    next_event = np.minimum(following, np.maximum(interactions.num_events - 1, 0))

    def rows(values: np.ndarray) -> Tensor:
        gathered = values[row] if len(values) else np.zeros(row.shape, values.dtype)
        return torch.from_numpy(np.where(filled, gathered, np.zeros((), values.dtype)))

    def events(values: np.ndarray) -> Tensor:
        return torch.from_numpy(_column(values, event))

    logp_known = np.where(filled, interactions.logp_known[row] if interactions.num_rows else False, True).all(axis=-1)
    context = interactions.context[context_event] if interactions.num_events else np.zeros((*context_event.shape, 0))
    # nothing is observed after a user's last event: the context of the next user must not leak in
    is_observed = base[:, None] + np.arange(steps + 1) < offsets[batch.user + 1][:, None]
    return Trajectories(
        event_id=events(interactions.event_id),
        policy_id=events(interactions.policy_id).long(),
        user=torch.from_numpy(np.broadcast_to(batch.user[:, None], mask.shape).astype(np.int64)),
        time=events(interactions.time),
        terminated=torch.from_numpy(ended),
        truncated=torch.from_numpy(last_event & ~ended),
        slate=rows(interactions.item).long(),
        logp=rows(interactions.logp),
        logp_known=torch.from_numpy(logp_known),
        reward=rows(interactions.reward),
        cost=rows(interactions.cost),
        used=rows(interactions.used),
        used_time=rows(interactions.used_time),
        use_reward=rows(interactions.use_reward),
        mask=torch.from_numpy(mask),
        learn=torch.from_numpy(mask & (batch.start[:, None] + column >= batch.learn[:, None])),
        context=torch.from_numpy(_observations(interactions, batch.user, context, is_observed)),
        next_time=torch.from_numpy(
            np.where(following < offsets[batch.user + 1], _column(interactions.time, next_event), NEVER)
        ),
    ).pad()


def _observations(
    interactions: Interactions,
    user: Int[np.ndarray, "B"],
    context: Float[np.ndarray, "B S X"],
    is_observed: Bool[np.ndarray, "B S"],
) -> Float[np.ndarray, "B S X2"]:
    """What is seen before each decision: its context, and what is known of the user, which does not end with the log.

    Args:
        interactions: the log.
        user: of each row.
        context: whatever stands at each place.
        is_observed: True where the place is one of the user's events.
    """
    observed = np.where(is_observed[..., None], context, 0.0).astype(np.float32)
    if interactions.user_features is None:
        return observed
    features = np.asarray(interactions.user_features[user], np.float32)[:, None]
    return np.concatenate([observed, np.broadcast_to(features, (*observed.shape[:2], features.shape[2]))], axis=2)


def shuffled_batches(
    interactions: Interactions, wins: Windows, *, batch_size: int, generator: np.random.Generator, skip: int = 0
) -> Iterator[Trajectories]:
    """Yield the batches of one epoch in random order; windows of similar length share a batch, which saves padding.

    Args:
        interactions: the log.
        wins: the windows of the epoch.
        batch_size: windows per batch.
        generator: determines the order; the same state gives the same epoch.
        skip: number of batches to skip at the start (a resumed epoch).
    """
    for batch in shuffled_windows(wins, batch_size=batch_size, generator=generator)[skip:]:
        yield trajectories(interactions, batch)


def shuffled_windows(
    wins: Windows, *, batch_size: int, generator: np.random.Generator, most_events: int | None = None
) -> list[Windows]:
    """The windows of each batch of one epoch, in random order.

    Args:
        wins: the windows of the epoch.
        batch_size: windows per batch.
        generator: determines the order.
        most_events: events of a batch, padding included; a batch of more is cut, down to single windows. None = as many
            as the windows have.
    """
    order = generator.permutation(len(wins))
    length = (wins.stop - wins.start)[order]
    pool = batch_size * 32
    pieces: list[Int[np.ndarray, "V"]] = []
    for start in range(0, len(order), pool):
        chunk = order[start : start + pool][np.argsort(length[start : start + pool], kind="stable")]
        for at in range(0, len(chunk), batch_size):
            piece = chunk[at : at + batch_size]
            longest = int((wins.stop - wins.start)[piece[-1]])
            rows = len(piece) if most_events is None else max(1, most_events // max(longest, 1))
            pieces += [piece[row : row + rows] for row in range(0, len(piece), rows)]
    return [wins[pieces[index]] for index in generator.permutation(len(pieces))]


def sample_rows(log: Trajectories, rows: int, *, updates: int, generator: Generator) -> Iterator[Trajectories]:
    """Batches of rows drawn uniformly, with replacement, each as long as its longest row.

    Args:
        log: in memory.
        rows: of each batch.
        updates: number of batches.
        generator: is drawn from only when the next batch is asked for.
    """
    for _ in range(updates):
        yield log.rows(torch.randint(len(log.mask), (rows,), generator=generator)).trim()


def shuffle_rows(
    log: Trajectories, rows: int, *, generator: Generator, whole_only: bool = False
) -> Iterator[Trajectories]:
    """One pass over all rows in random order.

    Args:
        log: in memory.
        rows: of each batch.
        generator: decides the order when the first batch is asked for.
        whole_only: leave out a last batch of fewer rows.
    """
    for index in torch.split(torch.randperm(len(log.mask), generator=generator), rows):
        if len(index) == rows or not whole_only:
            yield log.rows(index)


def _column(values: np.ndarray, event: Int[np.ndarray, "*B"]) -> np.ndarray:
    return np.asarray(values[event]) if len(values) else np.zeros(event.shape, values.dtype)
