"""Full ranking: lists for every user with something held out, beside what they used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.config import EvaluateConfig
from slatewise.data import batches
from slatewise.evaluation import metrics
from slatewise.log import FIRST_ITEM, Interactions, LogPart, Windows
from slatewise.ops.history import history_of, pushed_left
from slatewise.protocols import Policy
from slatewise.stats import Measurement, jackknife, mean_interval, wilson
from slatewise.types import SlateRequest, Slates

JACKKNIFE_GROUPS = 20
MOST_NUMBERS = 1 << 25
"""Numbers in the states that an encoder returns at once: 128 MB of float32."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Lists for U users beside what they used: `relevant` and `liked` are counts, hits mark positions."""

    user: Int[Tensor, "U"]
    items: Int[Tensor, "U K"]
    hits: Bool[Tensor, "U K"]
    relevant: Int[Tensor, "U"]
    liked_hits: Bool[Tensor, "U K"]
    liked: Int[Tensor, "U"]


def rank(
    policy: Policy,
    part: LogPart,
    config: EvaluateConfig,
    *,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Ranking:
    """Lists of the longest k for every user with something held out.

    Args:
        policy: recommends greedily (a random policy draws).
        part: the part to judge on.
        config: lengths, what counts as liked.
        seed: of the draws of a policy that draws.
        on_batch: told the number of users done after each batch.
    """
    interactions, first, last = part.interactions, part.first, part.last
    users = by_history(part)
    k = max(config.k)
    generator = Generator().manual_seed(seed)
    pieces: list[Ranking] = []
    for at in range(0, len(users), config.batch_size):
        user = users[at : at + config.batch_size]
        used_before, state = states_at(policy, interactions, user, first[user], max_history=config.max_history)
        held = used_items(interactions, user, first[user], last[user])
        with torch.inference_mode():
            request = SlateRequest(k=k, exclude=used_before if config.exclude_seen else None)
            slates = policy.recommend(state, request, generator=generator)
        pieces.append(_compare(torch.from_numpy(user), slates, held, config.liked_at_least))
        if on_batch is not None:
            on_batch(min(at + config.batch_size, len(users)))
    if not pieces:
        return _nobody(k)
    back = torch.argsort(torch.cat([piece.user for piece in pieces]))
    return Ranking(
        **{name: torch.cat([getattr(piece, name) for piece in pieces])[back] for name in Ranking.__dataclass_fields__}
    )


def ranking_metrics(
    ranking: Ranking, config: EvaluateConfig, *, num_rows: int, count: Float[Tensor, " R"]
) -> tuple[Measurement, ...]:
    """Every metric of a ranking, by length of list.

    Args:
        ranking: the lists and their hits.
        config: lengths, what counts as liked.
        num_rows: rows of the item table.
        count: how often each item number was used in training.
    """
    result: list[Measurement] = []
    for k in sorted(config.k):
        hits, relevant = ranking.hits[:, :k], ranking.relevant
        result += _hit_metrics("", k, hits, relevant)
        if config.liked_at_least is not None:
            has_liked = ranking.liked > 0
            result += _hit_metrics("liked_", k, ranking.liked_hits[has_liked, :k], ranking.liked[has_liked])
            num_hits, good = int(hits.sum()), int((ranking.liked_hits[:, :k] & hits).sum())
            low, high = wilson(good, num_hits)
            result.append(
                Measurement(
                    name=f"liked_share@{k}", value=good / num_hits if num_hits else math.nan, low=low, high=high
                )
            )
        items = ranking.items[:, :k]
        result.append(_jackknife(f"coverage@{k}", items, num_rows, metrics.coverage))
        result.append(_jackknife(f"gini@{k}", items, num_rows, metrics.gini))
        result.append(_mean(f"avg_popularity@{k}", metrics.avg_popularity(items, count)))
    return tuple(result)


def metric_names(config: EvaluateConfig) -> tuple[str, ...]:
    """Names of the metrics that `ranking_metrics` gives, in its order."""
    metrics_of_nobody = ranking_metrics(
        _nobody(max(config.k)), config, num_rows=FIRST_ITEM + 1, count=torch.zeros(FIRST_ITEM + 1)
    )
    return tuple(metric.name for metric in metrics_of_nobody)


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
    """Items each user had used when an event was decided on, 0-padded, and the state there.

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
    history = Windows(user=user, start=np.zeros_like(event), learn=np.zeros_like(event), stop=event)
    return history_of(batches.trajectories(interactions, history)).uses.item, state


def used_items(
    interactions: Interactions, user: Int[np.ndarray, "B"], first: Int[np.ndarray, "B"], last: Int[np.ndarray, "B"]
) -> tuple[Int[Tensor, "B X"], Float[Tensor, "B X"]]:
    """Items that were used of some of the users' events, in the order of the log, and their rewards; 0-padded."""
    events = batches.trajectories(interactions, Windows(user=user, start=first, learn=first, stop=last))
    used = events.used.flatten(1)
    order = pushed_left(used)
    present = used.gather(1, order)
    item, reward = events.slate.flatten(1).gather(1, order), events.reward.flatten(1).gather(1, order)
    return item.masked_fill(~present, 0), reward.masked_fill(~present, 0.0)


def _nobody(k: int) -> Ranking:
    empty = torch.zeros(0, k, dtype=torch.bool)
    none = torch.zeros(0, dtype=torch.int64)
    return Ranking(user=none, items=empty.long(), hits=empty, relevant=none, liked_hits=empty, liked=none)


def _compare(
    user: Int[Tensor, "B"],
    slates: Slates,
    held: tuple[Int[Tensor, "B X"], Float[Tensor, "B X"]],
    liked_at_least: float | None,
) -> Ranking:
    item, reward = held
    real = item >= FIRST_ITEM
    # an item that was used twice is one relevant item
    again = torch.tril(item.unsqueeze(2) == item.unsqueeze(1), diagonal=-1).any(dim=2)
    real = real & ~again
    match = (slates.items.unsqueeze(2) == item.unsqueeze(1)) & real.unsqueeze(1)
    liked = real & (reward >= liked_at_least) if liked_at_least is not None else torch.zeros_like(real)
    return Ranking(
        user=user,
        items=slates.items,
        hits=match.any(dim=2),
        relevant=real.sum(dim=1),
        liked_hits=(match & liked.unsqueeze(1)).any(dim=2),
        liked=liked.sum(dim=1),
    )


def _hit_metrics(prefix: str, k: int, hits: Bool[Tensor, "U K"], relevant: Int[Tensor, "U"]) -> list[Measurement]:
    values = {
        "recall": metrics.recall(hits, relevant),
        "precision": metrics.precision(hits),
        "f1": metrics.f1(hits, relevant),
        "ndcg": metrics.ndcg(hits, relevant),
        "mrr": metrics.mrr(hits),
        "hit": metrics.hit(hits),
        "map": metrics.average_precision(hits, relevant),
    }
    return [_mean(f"{prefix}{name}@{k}", value) for name, value in values.items()]


def _mean(name: str, values: Float[Tensor, "U"]) -> Measurement:
    value, low, high = mean_interval(values)
    return Measurement(name=name, value=value, low=low, high=high)


def _jackknife(
    name: str, items: Int[Tensor, "U K"], num_rows: int, measure: Callable[[Float[Tensor, " N"]], float]
) -> Measurement:
    """A metric of the whole set of lists; its interval by leaving out one of 20 groups of users after the other."""
    groups = min(JACKKNIFE_GROUPS, len(items))
    if not groups:
        return Measurement(name=name, value=math.nan)
    exposure = torch.stack(
        [
            torch.bincount(items[group::groups].flatten(), minlength=num_rows)[FIRST_ITEM:].float()
            for group in range(groups)
        ]
    )
    whole = exposure.sum(dim=0)
    value = measure(whole)
    if groups == 1:
        return Measurement(name=name, value=value)
    left_out = torch.tensor([measure(whole - part) for part in exposure], dtype=torch.float64)
    low, high = jackknife(value, left_out)
    return Measurement(name=name, value=value, low=low, high=high)
