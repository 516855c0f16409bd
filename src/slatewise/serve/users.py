"""Users between requests: their memories out of the store, out of the log, or from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM, Catalog
from slatewise.protocols import StateEncoder
from slatewise.serve.history import LoggedHistory
from slatewise.serve.memory import Memory, carry_bytes, carry_from, moved, read, step_bytes, step_from
from slatewise.serve.stores.lmdb import Play, Store, UserRecord
from slatewise.types import Observation, Step

_NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class User:
    """One user as the service knows them."""

    user_id: str
    memory: Memory
    seen: Int[np.ndarray, "X"]
    """Numbers of the items that the user picked, each once, rising."""
    latest: str
    """Event that moved the state last; "" = none since the log."""


class Users:
    """All users of one policy. Everything here happens inside a transaction of the store."""

    def __init__(
        self,
        encoder: StateEncoder,
        catalog: Catalog,
        *,
        policy_version: str,
        store: Store,
        history: LoggedHistory | None,
        context_width: int,
    ) -> None:
        """Users start from `history` where it knows them; X = context_width numbers are seen of them each time."""
        self._encoder = encoder
        self._catalog = catalog
        self._version = policy_version
        self._store = store
        self._history = history
        self.context_width = context_width

    def find(self, user_id: str) -> User:
        """A user, with the memory brought up to date if another policy kept it last."""
        record = self._store.user(user_id)
        if record is not None and record.policy_version == self._version:
            return _decoded(user_id, record)
        beginning = None if self._history is None else self._history.beginning(user_id, self._encoder)
        user = User(
            user_id=user_id,
            memory=Memory() if beginning is None else beginning.memory,
            seen=_NOTHING if beginning is None else beginning.seen,
            latest="",
        )
        logged: frozenset[int] = frozenset() if beginning is None else beginning.events
        for event_id, play in self._plays(record):
            # a log that was imported after these events has them already
            if not (event_id.isdecimal() and int(event_id) in logged):
                user = self._after(user, event_id, play)
        if record is not None:
            user = User(user_id=user_id, memory=user.memory, seen=user.seen, latest=record.latest)
        if beginning is not None or record is not None:
            self._keep(user)
        return user

    def state(self, user: User, context: list[float]) -> Float[Tensor, "1 D"]:
        """State of a user who is seen now."""
        return read(self._encoder, user.memory, self._observation(user.user_id, context))[1]

    def move(self, event_id: str, play: Play) -> None:
        """Move the state of a play's user by that play, and keep both."""
        user = self.find(play.user_id)
        self._store.put_play(event_id, msgspec.structs.replace(play, previous=user.latest))
        self._keep(self._after(user, event_id, play))

    def _after(self, user: User, event_id: str, play: Play) -> User:
        step = self._step(play)
        item = int(step.slate[0, play.choice])
        return User(
            user_id=user.user_id,
            memory=moved(self._encoder, user.memory, self._observation(user.user_id, play.context), step),
            seen=np.union1d(user.seen, [item]) if item >= FIRST_ITEM else user.seen,
            latest=event_id,
        )

    def _plays(self, record: UserRecord | None) -> list[tuple[str, Play]]:
        """What moved a user's state since the log, oldest first."""
        plays: list[tuple[str, Play]] = []
        event_id = "" if record is None else record.latest
        while event_id:
            play = self._store.play(event_id)
            if play is None:
                break
            plays.append((event_id, play))
            event_id = play.previous
        return plays[::-1]

    def _keep(self, user: User) -> None:
        self._store.put_user(
            user.user_id,
            UserRecord(
                policy_version=self._version,
                latest=user.latest,
                carry=carry_bytes(user.memory.carry),
                last=step_bytes(user.memory.last),
                seen=user.seen.astype("<i8").tobytes(),
            ),
        )

    def _observation(self, user_id: str, context: list[float]) -> Observation:
        number = -1 if self._history is None else self._history.user_number(user_id)
        # a play of a time when the policy read another context says nothing to this one
        seen = context if len(context) == self.context_width else [0.0] * self.context_width
        return Observation(
            user=torch.tensor([number]), context=torch.tensor([seen], dtype=torch.float32).view(1, self.context_width)
        )

    def _step(self, play: Play) -> Step:
        slate = torch.tensor([[self._catalog.vocabulary.number(name) for name in play.slate]])
        reward = torch.zeros(slate.shape)
        reward[0, play.choice] = play.reward
        known = play.logp is not None
        number = -1 if self._history is None else self._history.user_number(play.user_id)
        return Step(
            event_id=torch.zeros(1, dtype=torch.int64),
            policy_id=torch.zeros(1, dtype=torch.int64),
            user=torch.tensor([number]),
            time=torch.tensor([play.timestamp]),
            terminated=torch.zeros(1, dtype=torch.bool),
            truncated=torch.zeros(1, dtype=torch.bool),
            slate=slate,
            logp=torch.tensor([play.logp], dtype=torch.float32) if known else torch.zeros(slate.shape),
            logp_known=torch.tensor([known]),
            reward=reward,
            cost=torch.zeros(slate.shape),
            choice=torch.tensor([play.choice]),
        )


def _decoded(user_id: str, record: UserRecord) -> User:
    return User(
        user_id=user_id,
        memory=Memory(carry=carry_from(record.carry), last=step_from(record.last)),
        seen=np.frombuffer(record.seen, "<i8").astype(np.int64),
        latest=record.latest,
    )
