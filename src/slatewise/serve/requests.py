"""Requests in words → numbers for the policy and records for the log; what cannot be used is refused here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from slatewise.config import ServeConfig
from slatewise.data.decisions_and_outcomes import Outcome
from slatewise.data.item_filter import FilterError, ItemFilters
from slatewise.data.requests import excluded_items
from slatewise.log import FIRST_ITEM, PAD, UNKNOWN, Catalog
from slatewise.serve.clock import DAY, event_name, system_clock
from slatewise.serve.http.schema import Feedback, RecommendRequest
from slatewise.serve.journal import outcome_key, position_in
from slatewise.serve.masks import ServedItems
from slatewise.serve.refused import RefusedError, UnknownEventError
from slatewise.serve.stores.lmdb import Store
from slatewise.types import Exploration, SlateRequest
from slatewise.user_file import UserTable

EARLIEST = 946_684_800_000_000
"""2000-01-01: milliseconds or seconds in place of microseconds fall before it."""
MOST_NAMED = 10
"""Items of a slate that a message names."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An outcome as it will be recorded."""

    outcome: Outcome
    known_as: str | None
    """The event it was counted for before; None = it is new."""


class Door:
    """Checks requests against the catalog, the configuration and what was served."""

    def __init__(
        self,
        catalog: Catalog,
        config: ServeConfig,
        store: Store,
        *,
        served: ServedItems,
        context_width: int,
        user_table: UserTable | None = None,
    ) -> None:
        """Checks for one policy.

        Args:
            catalog: of the policy.
            config: of the service.
            store: what was served.
            served: the items that are not masked.
            context_width: numbers that are seen of a user.
            user_table: features of users; None = the policy reads none.
        """
        self._catalog = catalog
        self._served = served
        self._config = config
        self._store = store
        self._context_width = context_width
        self._filters = ItemFilters(served.items)
        self._user_table = user_table

    def conditions(self, request: RecommendRequest) -> SlateRequest:
        """The conditions that a request names; `with_seen` adds what the user used before.

        Raises:
            RefusedError: conditions under which this catalog gives no slate.
        """
        exploration = self._exploration(request)
        exclude = [self._catalog.vocabulary.number(name) for name in request.exclude]
        return SlateRequest(
            k=request.k,
            candidates=self._candidates(request),
            allowed=self._matching_items(request),
            exclude=torch.tensor([exclude], dtype=torch.int64),
            fixed=self._fixed_items(request, exclude),
            exploration=exploration,
        )

    def with_seen(self, conditions: SlateRequest, used_before: Int[np.ndarray, "Y"]) -> SlateRequest:
        """Conditions that also exclude what the user used before, unless repeats are allowed."""
        assert conditions.exclude is not None
        explicit = conditions.exclude[0].numpy()
        fixed = explicit[:0] if conditions.fixed is None else conditions.fixed[0].numpy()
        exclude = excluded_items(explicit, used_before[:0] if self._config.allow_repeats else used_before, fixed)
        return replace(conditions, exclude=torch.from_numpy(exclude).unsqueeze(0))

    def _exploration(self, request: RecommendRequest) -> Exploration | None:
        size = self._catalog.num_items
        if request.k > size:
            raise RefusedError(
                f"k is {request.k}, the catalog has {size:,} items",
                expected=f"a slate of 1 to {size:,} items",
                advice="Ask for a shorter slate.",
            )
        explore = request.explore
        if explore is None:
            return None if self._config.greedy else self._config.exploration(request.k)
        exploration = self._config.exploration(
            request.k, top_m=explore.top_m, keep=explore.keep, temperature=explore.temperature
        )
        if exploration.top_m < request.k:
            raise RefusedError(
                f"explore.top_m is {exploration.top_m}, the slate has {request.k} positions",
                expected=f"top_m of at least k = {request.k}",
                advice="Raise explore.top_m or leave it out.",
            )
        return exploration

    def _candidates(self, request: RecommendRequest) -> Int[Tensor, "1 C"] | None:
        if request.candidates is None:
            return None
        numbers = [self._catalog.vocabulary.number(name) for name in request.candidates]
        if UNKNOWN in numbers:
            strangers = [name for name, number in zip(request.candidates, numbers, strict=True) if number == UNKNOWN]
            others = f" and {len(strangers) - 1:,} more" if len(strangers) > 1 else ""
            raise RefusedError(
                f'candidates: the catalog has no item "{strangers[0]}"{others}',
                expected=f'item ids of the catalog, such as "{self._catalog.vocabulary.names[0].as_py()}"',
                advice="Leave unknown items out: this policy cannot score them.",
            )
        return torch.tensor([numbers])

    def _matching_items(self, request: RecommendRequest) -> Bool[Tensor, " rows"] | None:
        """What filter and mask leave."""
        unmasked = self._served.allowed
        if unmasked is not None and not bool(unmasked[FIRST_ITEM:].any()):
            raise RefusedError("every item is masked", expected="an item to show", advice="Lift masks: DELETE /masks.")
        if request.where is None:
            return unmasked
        try:
            matches = torch.tensor(self._filters.at_least_one(request.where))
        except FilterError as error:
            raise RefusedError(f"where: {error.problem}", expected=error.expected, advice=error.advice) from error
        allowed = matches if unmasked is None else matches & unmasked
        if not bool(allowed.any()):
            raise RefusedError(
                f"where: every item that matches {request.where!r} is masked",
                expected="a filter that leaves an item to show",
                advice="Loosen the filter, or lift masks.",
            )
        return allowed

    def _fixed_items(self, request: RecommendRequest, exclude: Sequence[int]) -> Int[Tensor, "1 K"] | None:
        if not request.fixed:
            return None
        items: dict[int, int] = {}
        for fixed in request.fixed:
            where = f'fixed: item "{fixed.item_id}" at position {fixed.position}'
            number = self._catalog.vocabulary.number(fixed.item_id)
            if number == UNKNOWN:
                raise RefusedError(
                    f"{where}: the catalog has no such item",
                    expected=f'item ids of the catalog, such as "{self._catalog.vocabulary.names[0].as_py()}"',
                    advice="Leave unknown items out: this service cannot show them.",
                )
            if fixed.position >= request.k:
                raise RefusedError(
                    f"{where}: the slate has {request.k} positions",
                    expected=f"a position from 0 to {request.k - 1}",
                    advice="Ask for a longer slate, or fix an earlier position.",
                )
            if fixed.position in items or number in items.values():
                raise RefusedError(
                    f"{where}: {'the position' if fixed.position in items else 'the item'} is fixed already",
                    expected="every position and every item once",
                    advice="Leave one of the two out.",
                )
            if number in exclude:
                raise RefusedError(
                    f"{where}: the item is excluded",
                    expected="items that are not in exclude",
                    advice="Leave it out of fixed, or out of exclude.",
                )
            if self._served.is_masked(number):
                raise RefusedError(
                    f"{where}: the item is masked",
                    expected="items that may be shown",
                    advice="Fix another, or lift it.",
                )
            items[fixed.position] = number
        return torch.tensor([[items.get(position, PAD) for position in range(request.k)]])

    def context(self, request: RecommendRequest) -> list[float]:
        """What is seen of the user; zeros where the request does not say.

        Raises:
            RefusedError: another number of values than the policy reads.
        """
        if request.context is None:
            return [0.0] * self._context_width
        if len(request.context) != self._context_width:
            raise RefusedError(
                f"context has {len(request.context)} numbers",
                expected=f"{self._context_width}, as in the log that the policy was trained on",
                advice="Send that many, or leave context out.",
            )
        return request.context

    def user_features(self, request: RecommendRequest) -> dict[int, float]:
        """What a request says of the user, by place among the features that states read.

        Raises:
            RefusedError: a feature or a category that the policy does not know.
        """
        if not request.user_features:
            return {}
        table = self._user_table
        if table is None:
            raise RefusedError(
                "user_features: this policy reads no features of users",
                expected="a request without user_features",
                advice="Train on a data set with features: `slatewise data import LOG --users FILE`.",
            )
        try:
            return table.encode(request.user_features)
        except ValueError as error:
            raise RefusedError(
                f"user_features: {error}",
                expected="features and values of the table of users that the policy was trained with",
                advice="Leave out what is not known of the user.",
            ) from error

    def arrivals(self, feedback: Sequence[Feedback], *, clock: Callable[[], int]) -> list[Arrival]:
        """Outcomes to record, repeated ones marked; reads the store's open transaction.

        Raises:
            UnknownEventError: an outcome of a slate that was not served here.
            RefusedError: an outcome that does not fit its slate, its type or its time.
        """
        arrivals: list[Arrival] = []
        events_in_request: dict[str, str] = {}
        for index, outcome_sent in enumerate(feedback):
            where = f"outcome {index}: " if len(feedback) > 1 else ""
            self._check(outcome_sent, where)
            if outcome_sent.event_id is None:
                outcome, position = self._use(outcome_sent, clock, where), 0
            else:
                outcome, position = self._of_slate(outcome_sent, outcome_sent.event_id, clock, where)
            key = outcome_key(outcome, position)
            known_as = self._store.event_of(key) or events_in_request.get(key)
            events_in_request.setdefault(key, outcome.event_id)
            arrivals.append(Arrival(outcome=outcome, known_as=known_as))
        return arrivals

    def _check(self, feedback: Feedback, where: str) -> None:
        rewards = self._config.rewards
        if rewards is not None and feedback.type not in rewards:
            raise RefusedError(
                f'{where}no reward is configured for outcomes of type "{feedback.type}"',
                expected=f"one of: {', '.join(sorted(rewards))}",
                advice="Add the type to rewards in [serve].",
            )
        latest = system_clock() + DAY
        if feedback.timestamp is not None and not EARLIEST <= feedback.timestamp <= latest:
            raise RefusedError(
                f"{where}timestamp is {feedback.timestamp}",
                expected="microseconds since 1970 (UTC) between the year 2000 and tomorrow",
                advice="Multiply seconds by 1,000,000, or leave timestamp out for now.",
            )

    def _use(self, feedback: Feedback, clock: Callable[[], int], where: str) -> Outcome:
        """A use outside of any slate, which is an event of its own."""
        if feedback.user_id is None or feedback.item_id is None or feedback.position is not None:
            raise RefusedError(
                f"{where}without event_id it is not clear who used what",
                expected="event_id with item_id or position, or user_id with item_id",
                advice="event_id stands in the answer of /recommend.",
            )
        received = clock()
        return Outcome(
            event_id=event_name(received),
            timestamp=received if feedback.timestamp is None else feedback.timestamp,
            received=received,
            item_id=feedback.item_id,
            type=feedback.type,
            value=float(feedback.value),
            outcome_id=feedback.outcome_id,
            user_id=feedback.user_id,
        )

    def _of_slate(self, feedback: Feedback, event_id: str, clock: Callable[[], int], where: str) -> tuple[Outcome, int]:
        """An outcome of a served slate, with its position."""
        play = self._store.play(event_id)
        if play is None:
            raise UnknownEventError(
                f'{where}no event "{event_id}"',
                expected="an event_id that /recommend of this service gave",
                advice="For a use outside of any slate send user_id and item_id without event_id.",
            )
        if feedback.user_id is not None and feedback.user_id != play.user_id:
            raise RefusedError(
                f'{where}the slate of event "{event_id}" was not served to "{feedback.user_id}"',
                expected="the user_id of the event, or none",
                advice="Leave user_id out: the event says whose it is.",
            )
        position = position_in(play, item_id=feedback.item_id, position=feedback.position)
        if position is None:
            raise _not_in_slate(feedback, play.slate, f'{where}the slate of event "{event_id}"')
        received = clock()
        outcome = Outcome(
            event_id=event_id,
            timestamp=received if feedback.timestamp is None else feedback.timestamp,
            received=received,
            item_id=play.slate[position],
            position=position,
            type=feedback.type,
            value=float(feedback.value),
            outcome_id=feedback.outcome_id,
        )
        return outcome, position


def _not_in_slate(feedback: Feedback, slate: Sequence[str], subject: str) -> RefusedError:
    """The error about an item or a position that a slate does not have.

    Args:
        feedback: names them.
        slate: names of the items.
        subject: the slate in words.
    """
    last = len(slate) - 1
    positions = "position 0" if last == 0 else f"positions 0 to {last}"
    shown = ", ".join(f'"{name}"' for name in slate[:MOST_NAMED]) + (", …" if len(slate) > MOST_NAMED else "")
    if feedback.item_id is None:
        difference = (
            "is named, and nothing of it" if feedback.position is None else f"has no position {feedback.position}"
        )
    elif feedback.item_id not in slate:
        difference = f'does not show "{feedback.item_id}"'
    else:
        place = slate.index(feedback.item_id)
        difference = f'shows "{feedback.item_id}" at position {place}, not at position {feedback.position}'
    return RefusedError(
        f"{subject} {difference}",
        expected=f"an item or a position of the slate ({shown}; {positions}); both must agree",
        advice="Send what /recommend answered; for another item leave event_id out and send user_id.",
    )
