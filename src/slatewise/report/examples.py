"""Users of the reported part: their history, what is recommended then, and what they used next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import torch
from jaxtyping import Int

from slatewise import evaluation
from slatewise.config import ServeConfig
from slatewise.config.run import RunConfig
from slatewise.data.prepared import Dataset
from slatewise.log import FIRST_ITEM, Interactions, LogPart
from slatewise.protocols import Policy
from slatewise.report.page import Example, Examples, Recommended, Used
from slatewise.types import SlateRequest

MOST_BEFORE = 8
"""Newest uses of the history that are listed."""
MOST_NEXT = 12
"""First uses of the part that are listed."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class UserSlate:
    """A slate made for the page, with the two kinds of propensity of each item; no padding."""

    items: tuple[int, ...]
    probability: tuple[float, ...]
    """π(item | state) of single draws from the whole catalog."""
    log_propensity: tuple[float, ...]
    """Of each position, in the procedure of the service."""
    excluded: int
    """Number of items that could not be recommended."""


def examples(
    policy: Policy, config: RunConfig, dataset: Dataset, part: LogPart, *, label: str, number: int
) -> Examples | None:
    """Users spread evenly over those who used something in a part, with slates of the longest evaluated length.

    Args:
        policy: the policy.
        config: of its run: how it is evaluated and served.
        dataset: the log and its catalog.
        part: what is held out.
        label: name of the policy on the page.
        number: how many users.
    """
    users, note = _choose_users(part, number)
    if not len(users):
        return None
    slates = _slates(policy, config, part, users)
    return Examples(
        users=tuple(
            _example(dataset, part, int(user), slate, exclude_seen=config.evaluate.exclude_seen)
            for user, slate in zip(users.tolist(), slates, strict=True)
        ),
        policy=label,
        note=note,
        probability=(
            f"the probability of the item if one item is drawn from all {dataset.catalog.num_items:,}; "
            "nothing is excluded, nothing explored"
        ),
        log_propensity=(
            "the logarithm of the probability with which the service shows this item at this position after those "
            f"above it, under {_request_in_words(config.serve, max(config.evaluate.k))}. 0 is certain, −∞ is "
            "never; the sum over the slate is its log-propensity"
        ),
    )


def _choose_users(part: LogPart, number: int) -> tuple[Int[np.ndarray, " B"], str]:
    """Users evenly over the user numbers, so that nobody chose the ones that look good; and the rule in words."""
    users = part.users()
    offsets, events = np.asarray(part.interactions.user_offsets), np.asarray(part.interactions.event_offsets)
    uses = np.append(0, np.cumsum(np.asarray(part.interactions.used)))
    start = events[offsets[users] + part.first[users]]
    stop = events[offsets[users] + part.last[users]]
    used = users[uses[stop] > uses[start]]
    chosen = used if len(used) else users
    if not len(chosen):
        return chosen, ""
    rows = np.unique(np.linspace(0, len(chosen) - 1, num=min(number, len(chosen))).astype(int))
    rule = f"Users spread evenly over the {len(used):,} of {len(users):,} who used something in this part of the log."
    nobody = f"Users spread evenly over the {len(users):,} of this part of the log; nobody used anything in it."
    return chosen[rows], rule if len(used) else nobody


def _slates(policy: Policy, config: RunConfig, part: LogPart, users: Int[np.ndarray, " B"]) -> list[UserSlate]:
    """The lists that the evaluation judges: greedy, in the state before the first event of the part."""
    seen_items, state = evaluation.states_at(
        policy, part.interactions, users, part.first[users], max_history=config.evaluate.max_history
    )
    k = max(config.evaluate.k)
    evaluated = SlateRequest(k=k, exclude=seen_items if config.evaluate.exclude_seen else None)
    served = SlateRequest(
        k=k,
        exclude=None if config.serve.allow_repeats else seen_items,
        exploration=None if config.serve.greedy else config.serve.exploration(k),
    )
    with torch.inference_mode():
        items = policy.recommend(state, evaluated, generator=torch.Generator().manual_seed(0)).items
        probability = policy.log_pi(state, items).exp()
        log_propensity = policy.log_prob(state, items, served)
    slates = []
    for row, real in enumerate(items >= FIRST_ITEM):
        # the list of seen items has each of them once
        excluded = 0 if evaluated.exclude is None else int((seen_items[row] >= FIRST_ITEM).sum())
        slates.append(
            UserSlate(
                items=tuple(items[row, real].tolist()),
                probability=tuple(probability[row, real].tolist()),
                log_propensity=tuple(log_propensity[row, real].tolist()),
                excluded=excluded,
            )
        )
    return slates


def _request_in_words(config: ServeConfig, k: int) -> str:
    """The request of a service that is started without options, for slates of k items."""
    exploration = "no exploration"
    if not config.greedy:
        explored = config.exploration(k)
        exploration = (
            f"exploration (top_m {explored.top_m}, keep {explored.keep}, temperature {explored.temperature:g})"
        )
    repeats = "repeats allowed" if config.allow_repeats else "items used before excluded"
    return f"k = {k}, {exploration}, {repeats}"


def _example(dataset: Dataset, part: LogPart, user: int, slate: UserSlate, *, exclude_seen: bool) -> Example:
    log = dataset.interactions
    offset = int(log.user_offsets[user])
    decision, end = offset + int(part.first[user]), offset + int(part.last[user])
    history_rows = _used_rows(log, offset, decision)
    history_rows = history_rows[np.asarray(log.used_time)[history_rows] <= int(log.time[decision])]
    held_out_rows = _used_rows(log, decision, end)
    largest = _largest_rewards(log, held_out_rows)
    when = f" at {_time(int(log.time[decision]))}" if dataset.clock else ""
    shown = int(log.event_offsets[end] - log.event_offsets[decision])
    matches = len(largest.keys() & set(slate.items))
    return Example(
        user=dataset.users.name(user),
        history=tuple(_use(dataset, row) for row in history_rows[-MOST_BEFORE:].tolist()),
        history_note=f"The newest {MOST_BEFORE} of {len(history_rows):,} uses."
        if len(history_rows) > MOST_BEFORE
        else "",
        slate=tuple(
            Recommended(
                title=dataset.catalog.title(item),
                probability=probability,
                log_propensity=log_propensity,
                used=f"used next, reward {largest[item]:g}" if item in largest else "",
            )
            for item, probability, log_propensity in zip(
                slate.items, slate.probability, slate.log_propensity, strict=True
            )
        ),
        slate_note=(
            f"Made for this page, for the state{when} just before the held-out events; {slate.excluded:,} items "
            "excluded as used before. Nobody was shown it."
        ),
        next=_next_uses(dataset, held_out_rows[:MOST_NEXT], history_rows, slate, exclude_seen=exclude_seen),
        next_note=_next_note(len(held_out_rows), shown if dataset.kind == "impressions" else None, matches),
    )


def _next_uses(
    dataset: Dataset,
    rows: Int[np.ndarray, " P"],
    history_rows: Int[np.ndarray, " H"],
    slate: UserSlate,
    *,
    exclude_seen: bool,
) -> tuple[Used, ...]:
    """Uses of the part, each with its position in the slate or why it has none.

    Args:
        dataset: the log and its catalog.
        rows: the uses.
        history_rows: rows of the history's uses.
        slate: what is recommended.
        exclude_seen: True where items of the history are not recommended.
    """
    log = dataset.interactions
    seen_items = set(np.asarray(log.item)[history_rows].tolist())
    repeat = "used before, so not recommended" if exclude_seen else "used before"
    uses = []
    for row in rows.tolist():
        item = int(log.item[row])
        remark = (
            f"position {slate.items.index(item) + 1}" if item in slate.items else repeat if item in seen_items else ""
        )
        uses.append(replace(_use(dataset, row), remark=remark, recommended=item in slate.items))
    return tuple(uses)


def _use(dataset: Dataset, row: int) -> Used:
    log = dataset.interactions
    return Used(
        title=dataset.catalog.title(int(log.item[row])),
        reward=f"reward {float(log.reward[row]):g}",
        time=_time(int(log.used_time[row])) if dataset.clock else "",
    )


def _largest_rewards(log: Interactions, rows: Int[np.ndarray, " P"]) -> dict[int, float]:
    """Each used item with the largest reward that came of it."""
    largest: dict[int, float] = {}
    for row in rows.tolist():
        item, reward = int(log.item[row]), float(log.reward[row])
        largest[item] = max(reward, largest.get(item, reward))
    return largest


def _next_note(uses: int, shown: int | None, matches: int) -> str:
    """How many uses there are, and how many of their items are in the slate.

    Args:
        uses: of the part.
        shown: items that the log showed there; None where it holds uses only.
        matches: different used items in the slate.
    """
    among = "" if shown is None else f" of {shown:,} shown items"
    if not uses:
        return f"Used none{among}."
    listed = f" The first {MOST_NEXT} are listed." if uses > MOST_NEXT else ""
    return f"{uses:,} {'use' if uses == 1 else 'uses'}{among}; {matches:,} of the items in the slate.{listed}"


def _used_rows(log: Interactions, start: int, stop: int) -> Int[np.ndarray, " P"]:
    """Rows of the uses of known items in the events start … stop − 1, in the order in which they arrived."""
    first, last = int(log.event_offsets[start]), int(log.event_offsets[stop])
    used = first + np.flatnonzero(np.asarray(log.used[first:last]) & (np.asarray(log.item[first:last]) >= FIRST_ITEM))
    order: Int[np.ndarray, " P"] = used[np.argsort(np.asarray(log.used_time)[used], kind="stable")]
    return order


def _time(microseconds: int) -> str:
    return f"{EPOCH + timedelta(microseconds=microseconds):%Y-%m-%d %H:%M} UTC"
