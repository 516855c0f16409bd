"""Users between requests: their memories out of the store, out of the log, or from nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.data.decisions_and_outcomes import UNUSABLE_REWARD, LineError
from slatewise.log import FIRST_ITEM, Catalog
from slatewise.protocols import Carry, StateEncoder
from slatewise.serve.history import LoggedHistory
from slatewise.serve.memory import carry_bytes, carry_from
from slatewise.serve.stores.lmdb import Store, UseRecord, UserRecord, use_key
from slatewise.types import Observation, Uses
from slatewise.user_file import UserTable

_logger = logging.getLogger(__name__)
_NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class User:
    """One user as the service knows them."""

    user_id: str
    carry: Carry
    used_items: Int[np.ndarray, "X"]
    """Numbers of the items that the user used, each once, ascending."""
    latest: str
    """Key of the use that moved the memory last; "" = none since the log."""


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
        user_table: UserTable | None = None,
    ) -> None:
        """Users of a policy.

        Args:
            encoder: of their states.
            catalog: the items of the policy.
            policy_version: which memories it can read.
            store: keeps memories.
            history: where it knows a user, they start from it.
            context_width: X, numbers that are seen of them each time.
            user_table: features of users, which states read after the context; None = states read none.
        """
        self.encoder = encoder
        self._catalog = catalog
        self._version = policy_version
        self._store = store
        self._history = history
        self.context_width = context_width
        self.user_table = user_table

    @property
    def example(self) -> str | None:
        """Name of a user of the log; None where there is no log."""
        names = None if self._history is None else self._history.dataset.users.names
        return names[0].as_py() if names is not None and len(names) else None

    def find(self, user_id: str) -> User:
        """A user, with the memory brought up to date if another policy saved it last."""
        record = self._store.user(user_id)
        if record is not None and record.policy_version == self._version:
            return _decode(user_id, record)
        beginning = None if self._history is None else self._history.beginning(user_id, self.encoder)
        user = User(
            user_id=user_id,
            carry=self.encoder.initial(1) if beginning is None else beginning.carry,
            used_items=_NOTHING if beginning is None else beginning.used_items,
            latest="",
        )
        logged: frozenset[tuple[int, int]] = frozenset() if beginning is None else beginning.uses
        for key, use in self._uses(record):
            # a log that was imported after these uses has them already
            if not (use.event_id.isdecimal() and (int(use.event_id), use.position) in logged):
                user = self._moved_by(user, key, use, skip_infinite=True)
        if record is not None:
            user = User(user_id=user_id, carry=user.carry, used_items=user.used_items, latest=record.latest)
        if beginning is not None or record is not None:
            self._save(user)
        return user

    def state(
        self, user: User, context: list[float], features: Mapping[int, float] = MappingProxyType({})
    ) -> Float[Tensor, "1 D"]:
        """State of a user who is seen now.

        Args:
            user: as the service knows them.
            context: of the request.
            features: of the user, by place, that a request names; they count before those of the table.
        """
        number = -1 if self._history is None else self._history.user_number(user.user_id)
        row = torch.tensor([context], dtype=torch.float32).view(1, self.context_width)
        if self.user_table is not None:
            about = torch.from_numpy(self.user_table.row(user.user_id).copy())
            for place, value in features.items():
                about[place] = value
            row = torch.cat([row, about.unsqueeze(0)], dim=1)
        return self.encoder.state(user.carry, Observation(user=torch.tensor([number]), context=row))

    def move(self, user_id: str, use: UseRecord) -> None:
        """Move a user's memory by a use, and keep both.

        Raises:
            LineError: the memory would hold numbers that are not finite; nothing was kept.
        """
        user = self.find(user_id)
        moved = self._moved_by(user, use_key(use.event_id, use.position), use)
        self._store.put_use(msgspec.structs.replace(use, previous=user.latest))
        self._save(moved)

    def _moved_by(self, user: User, key: str, use: UseRecord, *, skip_infinite: bool = False) -> User:
        """A user after a use.

        Args:
            user: before it.
            key: of the use.
            use: what was used.
            skip_infinite: leave the memory as it was where it cannot hold the use.

        Raises:
            LineError: the memory cannot hold the use.
        """
        item = self._catalog.vocabulary.number(use.item_id)
        uses = Uses(
            item=torch.tensor([[item]]),
            reward=torch.tensor([[use.reward]], dtype=torch.float32),
            time=torch.tensor([[use.time]]),
            present=torch.tensor([[True]]),
        )
        carry = self.encoder.step(user.carry, uses)
        if not bool(torch.isfinite(carry).all()):
            fault = f"{use.reward:g} for an item used by {user.user_id!r} makes their state infinite"
            if not skip_infinite:
                raise LineError(UNUSABLE_REWARD, fault)
            _logger.warning("the use in event %s does not move the state under this policy: %s", use.event_id, fault)
            carry = user.carry
        return User(
            user_id=user.user_id,
            carry=carry,
            used_items=np.union1d(user.used_items, [item]) if item >= FIRST_ITEM else user.used_items,
            latest=key,
        )

    def _uses(self, record: UserRecord | None) -> list[tuple[str, UseRecord]]:
        """What a user used since the log, with its key, oldest first."""
        uses: list[tuple[str, UseRecord]] = []
        key = "" if record is None else record.latest
        while key:
            use = self._store.use(key)
            if use is None:
                break
            uses.append((key, use))
            key = use.previous
        return uses[::-1]

    def _save(self, user: User) -> None:
        self._store.put_user(
            user.user_id,
            UserRecord(
                policy_version=self._version,
                latest=user.latest,
                carry=carry_bytes(user.carry),
                used_items=user.used_items.astype("<i8").tobytes(),
            ),
        )


def _decode(user_id: str, record: UserRecord) -> User:
    return User(
        user_id=user_id,
        carry=carry_from(record.carry),
        used_items=np.frombuffer(record.used_items, "<i8").astype(np.int64),
        latest=record.latest,
    )
