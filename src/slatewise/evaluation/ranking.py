"""Full ranking: a list for every user of a part, beside what the user has to find there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.config import EvaluateConfig
from slatewise.data import batches
from slatewise.evaluation.relevance import Relevance, held_out_items, pad_by_row, seen_items
from slatewise.log import Interactions, LogPart, Windows
from slatewise.protocols import Policy
from slatewise.types import SlateRequest

MOST_NUMBERS = 1 << 25
"""Numbers in the states that an encoder returns, or scores that a policy computes, at once: 128 MB of float32."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Lists for U users beside what they have to find; hits mark the positions of relevant items, and of liked ones."""

    user: Int[Tensor, "U"]
    items: Int[Tensor, "U K"]
    """Item 0 fills a list that ran out of items."""
    hits: Bool[Tensor, "U K"]
    liked_hits: Bool[Tensor, "U K"]
    relevance: Relevance


def rank(
    policy: Policy,
    part: LogPart,
    config: EvaluateConfig,
    *,
    num_rows: int = 1,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Ranking:
    """Lists of the longest k for every user with an event in a part.

    Args:
        policy: recommends greedily (a random policy draws).
        part: the part to evaluate on.
        config: lengths, what counts as liked, whether seen items are excluded.
        num_rows: rows of the item table; where there are many, fewer users are ranked at once, because a policy may
            score all of them.
        seed: of the draws of a policy that draws.
        on_batch: called with the number of users done after each batch.
    """
    interactions, first, last = part.interactions, part.first, part.last
    users = by_history(part)
    k = max(config.k)
    generator = Generator().manual_seed(seed)
    pieces = [nobody(k)]
    for at in range(0, len(users), config.batch_size):
        user = users[at : at + config.batch_size]
        used_before, state = states_at(policy, interactions, user, first[user], max_history=config.max_history)
        held_out = held_out_items(interactions, user, first[user], last[user])
        with torch.inference_mode():
            lists = []
            for rows in torch.split(torch.arange(len(user)), max(1, MOST_NUMBERS // num_rows)):
                request = SlateRequest(k=k, exclude=used_before[rows] if config.exclude_seen else None)
                lists.append(policy.recommend(state[rows], request, generator=generator).items)
            items = torch.cat(lists)
        pieces.append(
            Ranking(
                user=torch.from_numpy(user),
                items=items,
                hits=held_out.relevant(config).hits(items),
                liked_hits=held_out.select_liked(config).hits(items),
                relevance=Relevance.of(held_out, len(user), config),
            )
        )
        if on_batch is not None:
            on_batch(min(at + config.batch_size, len(users)))
    user_numbers = torch.cat([piece.user for piece in pieces])
    by_number = torch.argsort(user_numbers)
    return Ranking(
        user=user_numbers[by_number],
        items=torch.cat([piece.items for piece in pieces])[by_number],
        hits=torch.cat([piece.hits for piece in pieces])[by_number],
        liked_hits=torch.cat([piece.liked_hits for piece in pieces])[by_number],
        relevance=Relevance.concatenate([piece.relevance for piece in pieces]).rows(by_number),
    )


def nobody(k: int) -> Ranking:
    """The ranking of a part without events, with lists of k items."""
    empty = torch.zeros(0, k, dtype=torch.bool)
    return Ranking(
        user=torch.zeros(0, dtype=torch.int64),
        items=empty.long(),
        hits=empty,
        liked_hits=empty,
        relevance=Relevance.concatenate([]),
    )


def by_history(part: LogPart) -> Int[np.ndarray, " V"]:
    """Users with something held out, short histories first: users of a batch then have histories of like length."""
    users = part.users()
    order: Int[np.ndarray, " V"] = users[np.argsort(part.first[users], kind="stable")]
    return order


def states_at(
    policy: Policy,
    interactions: Interactions,
    user: Int[np.ndarray, "B"],
    event: Int[np.ndarray, "B"],
    *,
    max_history: int,
) -> tuple[Int[Tensor, "B X"], Float[Tensor, "B D"]]:
    """Items each user had used when an event was decided on, each once and ascending, 0-padded; and the state there.

    Args:
        policy: its encoder reads the history.
        interactions: the log.
        user: users.
        event: position in each user's history.
        max_history: newest events that the state reads; the list of used items is always whole.
    """
    start = np.maximum(event - max_history, 0)
    longest = int((event - start).max(initial=0)) + 1
    share = max(1, MOST_NUMBERS // (longest * policy.encoder.width))
    states = []
    for at in range(0, len(user), share):
        chunk = slice(at, at + share)
        history = Windows(user=user[chunk], start=start[chunk], learn=start[chunk], stop=event[chunk])
        with torch.inference_mode():
            all_states = policy.encoder(batches.trajectories(interactions, history))
        # cloned: a view would keep the states of all steps alive
        states.append(all_states[torch.arange(len(all_states)), torch.from_numpy((event - start)[chunk])].clone())
    state = torch.cat(states)
    row, item = seen_items(interactions, user, event)
    return pad_by_row(row, item, len(user)), state
