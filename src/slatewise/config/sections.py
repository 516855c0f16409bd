"""The tables of a run's configuration that belong to no component."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from slatewise.types import Exploration

_1970 = datetime(1970, 1, 1, tzinfo=UTC)
ContentKind = Literal["features", "text"]
SplitName = Literal["leave_one_out", "first_share", "random", "by_time", "by_user"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """[data]: which log, and how it is split."""

    path: str
    """Folder of a prepared data set (`slatewise data import` makes one)."""
    split: SplitName | None = None
    """leave_one_out: each user's last event tests, the last but one validates. first_share: each user's first events
    train, the last ones test. random: as many, drawn at random. by_time: all users at the same two moments. by_user:
    whole users, evaluated after a first part of their events. None: leave_one_out, random for a log without a clock."""
    valid_share: float = 0.1
    """Share of the events (by_user: users) that validate, at least one; not read by leave_one_out."""
    test_share: float = 0.2
    """Share of the events (by_user: users) that test, at least one; not read by leave_one_out."""
    valid_from: str | None = None
    """by_time: start of validation (ISO 8601, UTC where it names no zone), in place of the shares."""
    test_from: str | None = None
    """by_time: start of the test part; without valid_from nothing validates."""
    fold_in: float = 0.5
    """by_user: share of a held-out user's events that is their history, at least one event; 0 evaluates without any."""
    learn_from: str | None = None
    """Moment (ISO 8601) before which events are only history: a short update on what is new."""
    split_seed: int = 0
    """Of the order of users in by_user, and of events in random."""
    user_features: bool | None = None
    """Whether states read the features of users; None = where the data set has them."""
    fingerprint: str | None = None
    """If given, the data set must have it; a run writes it down."""

    def __post_init__(self) -> None:
        if min(self.valid_share, self.test_share) < 0 or not 0 <= self.fold_in < 1:
            raise ValueError(
                f"valid_share {self.valid_share}, test_share {self.test_share}, fold_in {self.fold_in}; expected "
                "shares of at least 0, fold_in below 1"
            )
        if (self.valid_from or self.test_from) and self.split != "by_time":
            raise ValueError('valid_from and test_from belong to split = "by_time"')
        if self.valid_from is not None and self.test_from is None:
            raise ValueError("valid_from needs test_from")
        for name in ("valid_from", "test_from", "learn_from"):
            moment = getattr(self, name)
            if moment is not None:
                microseconds(moment)


@dataclass(frozen=True, kw_only=True)
class ItemsConfig:
    """[items]: what item vectors are made of, besides what is learned of each item."""

    content: tuple[ContentKind, ...] = ()
    """features: numbers and labels of the item table; text: its text and group. A linear map of them is added to the
    learned row of every item, in scores and in histories, and is all that an item without events has. (): learned rows
    alone."""
    text_width: int = 64
    """Width of the vectors that texts become (hashed words and n-grams, TF-IDF, truncated SVD)."""
    drop: float = 0.5
    """Share of the learned rows that training leaves out at random, so that content learns to do without them."""

    def __post_init__(self) -> None:
        if len(set(self.content)) < len(self.content):
            raise ValueError(f"content is {list(self.content)}; expected every kind once")
        if self.text_width < 1:
            raise ValueError(f"text_width is {self.text_width}; expected at least 1")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is {self.drop}; expected a share in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """[train]: the loop over the log."""

    epochs: int = 20
    """Passes over the log; counting methods make one."""
    batch_size: int = 32
    """Windows of users' histories at once."""
    max_length: int = 1024
    """Most events that one window teaches; longer histories are cut. Counting methods read whole users."""
    burn_in: int = 50
    """Events before a cut window that only move the state."""
    seed: int = 0
    start_from: str | None = None
    """Folder of a finished run of the same method: training starts from its weights."""
    select: str | None = None
    """Validation metric that chooses the weights to keep. None: ndcg@k with the first [evaluate] k; for a learner that
    evaluates itself, the first metric that it names."""
    patience: int = 5
    """Epochs without a better figure before training stops."""
    valid_users: int = 20_000
    """Most users that validate after every epoch, a fixed sample; at the end all of them do."""
    checkpoint_every: int | None = None
    """Steps between checkpoints, with one more after every epoch; None = by time: every ten seconds, or more seldom so
    that they take a twentieth of the time at most."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_length", "patience", "valid_users", "checkpoint_every", "log_every"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; expected at least 1")
        if self.burn_in < 0:
            raise ValueError(f"burn_in is {self.burn_in}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """[retrieval]: how a policy that scores by inner products finds the items with the largest scores."""

    index: Literal["auto", "exact", "approximate"] = "auto"
    """exact: every item is scored. approximate: those that an index finds are. auto: exact up to exact_up_to items."""
    exact_up_to: int = 200_000
    recall: float = 0.95
    """Share of the top_m best items ([serve]) that the index must find; it reads more of its lists until it does."""
    states: int = 1000
    """States of the validation part on which that is measured."""

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall is {self.recall}; expected a share above 0, at most 1")
        if self.exact_up_to < 0 or self.states < 1:
            raise ValueError(f"exact_up_to {self.exact_up_to}, states {self.states}; expected at least 0 and 1")

    def uses_index(self, num_items: int) -> bool:
        """Whether the items of a catalog of this size are found by an index."""
        return self.index == "approximate" or (self.index == "auto" and num_items > self.exact_up_to)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """[evaluate]: how a policy is evaluated on held-out events."""

    k: tuple[int, ...] = (10,)
    """Lengths of the lists."""
    liked_at_least: float | None = None
    """Held-out items with at least this reward count as liked and get columns of their own."""
    exclude_seen: bool = True
    """Items that the user used before are not recommended."""
    batch_size: int = 256
    """Users at once."""
    max_history: int = 1024
    """Newest events of a user that the state reads."""

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k is {list(self.k)}; expected list lengths of at least 1, for example [10]")
        if self.batch_size < 1 or self.max_history < 1:
            raise ValueError("batch_size and max_history must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """[serve]: how a policy is served where a request does not say otherwise.

    The options of `slatewise serve` override it.
    """

    top_m: int = 100
    """How many of the best items may be shown (a longer slate raises it to its own length)."""
    keep: int | None = None
    """First positions that hold the best items, in order; None = half of the slate."""
    temperature: float = 1.0
    """The other positions are drawn by softmax(score / temperature)."""
    greedy: bool = False
    """Show the best items and draw nothing: every propensity is 1, and the log can judge no other policy."""
    allow_repeats: bool = False
    """Recommend items again that the user had already."""
    rewards: dict[str, float] | None = None
    """Outcome type → reward of one unit of its value, as `data import` is told; None = the value itself."""

    def __post_init__(self) -> None:
        self.exploration(1)

    def exploration(
        self, k: int, *, top_m: int | None = None, keep: int | None = None, temperature: float | None = None
    ) -> Exploration:
        """Exploration for a slate of k items; what is given stands above what is configured.

        Raises:
            ValueError: a number that `Exploration` refuses.
        """
        if keep is None:
            keep = k // 2 if self.keep is None else self.keep
        return Exploration(
            top_m=max(self.top_m, k) if top_m is None else top_m,
            keep=keep,
            temperature=self.temperature if temperature is None else temperature,
        )

    def reward(self, outcome_type: str, value: float) -> float:
        """What an outcome is worth; one of a type that the table does not name is worth nothing."""
        return value if self.rewards is None else value * self.rewards.get(outcome_type, 0.0)


def microseconds(moment: str) -> int:
    """ISO 8601, without a zone in UTC → microseconds since 1970.

    Raises:
        ValueError: not a date or time.
    """
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        raise ValueError(f'"{moment}" is not a date or time (expected ISO 8601, such as 2026-05-01)') from None
    return ((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - _1970) // timedelta(microseconds=1)
