"""Verbs that cross rooms. Axes as in types.py; `Carry` is an encoder's memory of one user as one row of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.log import Catalog, LogPart
from slatewise.types import Estimate, Observation, Phase, SlateRequest, Slates, Step, Trajectories, Uses

Own = TypeVar("Own")  # the run-time checker of the tests does not take typing.Self outside decorated classes

Carry = Tensor
"""(B, M) float32: everything an encoder must remember of a user, so that any store can keep it as bytes."""


@runtime_checkable
class Settings(Protocol):
    """The Config of a component: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@runtime_checkable
class ResolvesFromLog(Protocol):
    """Settings of an encoder or a method that leave something open, which the training part of a log fills in."""

    def resolve(self: Own, part: LogPart, /) -> Own: ...


@runtime_checkable
class HasRetiredKeys(Protocol):
    """Settings that once had other keys: old key → what to write in its place."""

    retired_keys: ClassVar[Mapping[str, str]]


@runtime_checkable
class StateEncoder(Protocol):
    """History → state: a history is a sequence of uses in the order in which they arrived (`ops.history.history_of`).

    A call reads whole histories and returns the state before every step and after the last. `initial`, `step` and
    `state` are the same in small pieces, for serving and simulation: memory of users without a use, the memory after
    some more uses, and the state of users who are seen now. Rolled out in the order of arrival they equal the call. A
    place of `Uses` that is not present keeps its user's memory; there may be none at all (P = 0).
    """

    width: int
    """D."""

    def __call__(self, trajectories: Trajectories, /) -> Float[Tensor, "B S D"]: ...
    def initial(self, num_users: int, /) -> Carry: ...
    def step(self, carry: Carry, uses: Uses, /) -> Carry: ...
    def state(self, carry: Carry, observation: Observation, /) -> Float[Tensor, "B D"]: ...


@runtime_checkable
class ReadsContext(Protocol):
    """An encoder whose state holds so many numbers of what is observed before the decision (0: none)."""

    context_width: int
    """X."""


@runtime_checkable
class Policy(Protocol):
    """State → slates, and with which probability.

    ``log_pi`` is one item drawn once from the whole catalog (the papers' π); ``log_prob`` is the chain-rule factor of
    the served procedure per position, and the same number that ``recommend`` gave as ``logp`` under the same request.
    ``policies.slate_policy`` has what all policies share: the checks of a request, and its fixed positions.
    """

    encoder: StateEncoder

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]: ...
    def recommend(
        self,
        state: Float[Tensor, "B D"],
        request: SlateRequest,
        *,
        generator: Generator | None = None,
    ) -> Slates: ...
    def log_prob(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@runtime_checkable
class ScoresByInnerProduct(Protocol):
    """A policy whose scores are inner products: row i of `vectors`, with `query` of a state, plus `item_bias`.

    Rows are those of the real items, in the order of their numbers. The scores are what the policy's softmax reads:
    `log_pi` follows from them, up to a constant of each state.
    """

    def vectors(self) -> Float[Tensor, "N E"]: ...
    def item_bias(self) -> Float[Tensor, " N"] | None: ...
    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]: ...


@runtime_checkable
class KeepsIndex(Protocol):
    """A policy that can find the items it scores by an index, which an artifact keeps as plain arrays."""

    def build_index(self) -> None: ...
    def index_arrays(self) -> dict[str, Tensor]: ...
    def load_index(self, arrays: Mapping[str, Tensor], /) -> None: ...


@runtime_checkable
class Learner(Protocol):
    """Trajectories → a better policy. ``state_dict`` is flat and all tensors, optimiser included."""

    single_pass: bool
    """True where one pass over the log is all there is to learn (counting methods)."""

    @property
    def policy(self) -> Policy: ...
    def update(self, trajectories: Trajectories, /) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor], /) -> None: ...


@runtime_checkable
class ChecksLog(Protocol):
    """A learner that can say, before any time is spent, that nothing can be learned from a log (`ValueError`)."""

    def check_log(self, part: LogPart, /) -> None: ...


@runtime_checkable
class Prepares(Protocol):
    """A learner that reads something off the training part of a log before its first update (a tree of the items)."""

    def prepare(self, part: LogPart, /) -> None: ...


@runtime_checkable
class HasPhases(Protocol):
    """A learner whose training has phases with objectives of their own; patience counts from the last one on.

    `phase` is the phase of the next update.
    """

    @property
    def phase(self) -> Phase: ...


@runtime_checkable
class Plans(Protocol):
    """A learner that is told before its first update how long training will be.

    `ValueError`: it would end before the learner's last phase begins.
    """

    def plan(self, *, updates_per_epoch: int, epochs: int) -> None: ...


@runtime_checkable
class HasNotes(Protocol):
    """A learner that reports, once it is trained, what it did with its log; one sentence a note."""

    def notes(self) -> tuple[str, ...]: ...


@runtime_checkable
class MovesItems(Protocol):
    """A learner whose state holds numbers of items: those entries of another catalog's in the numbers of its own.

    `source` is the row in the other catalog of each row of its own; 1 for an item that the other did not have. Tables
    with a row for every item need not be among the entries: they are moved for every learner.
    """

    def move_items(self, state: dict[str, Tensor], source: Int[Tensor, "rows"], /) -> dict[str, Tensor]: ...


@runtime_checkable
class KnowsUsers(Protocol):
    """A learner that knows users by a key for each number of a user, the same key in every log.

    Training that starts from a run gives it the events of before, which it does not learn from, too.
    """

    def name_users(self, keys: Int[Tensor, " U"], /) -> None: ...


@runtime_checkable
class SearchesPositions(Protocol):
    """A policy that searches among positions of its items, which `refresh_positions` computes from their vectors."""

    def refresh_positions(self) -> None: ...


@runtime_checkable
class SelfEvaluating(Protocol):
    """A learner that evaluates itself on held-out events: a user model, which recommends nothing.

    The values of `evaluate` go by `metric_names`; validation selects by one of them.
    """

    metric_names: tuple[str, ...]

    def evaluate(self, part: LogPart, /) -> dict[str, float]: ...


@runtime_checkable
class ConstraintAware(Protocol):
    """A learner with a constraint: a warning where the constraint is violated after training, else None."""

    def violation(self) -> str | None: ...


@runtime_checkable
class EstimatesBehaviour(Protocol):
    """A policy with an estimate β̂ of the policies that wrote its log: states, and log β̂ of every row there.

    `logged_by` numbers the logging policy of each state; 0 = the log does not say.
    """

    def behaviour_states(self, trajectories: Trajectories, /) -> Float[Tensor, "B S D"]: ...
    def log_behaviour(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]: ...


@runtime_checkable
class Env(Protocol):
    """A world of B users at once.

    `reset` starts all over; the same seed and the same slates give the same steps, whatever else draws random numbers:
    an env has its own generator. Every tensor given back is fresh: no later step changes it.

    Sessions restart by themselves, in the same step: where a Step is terminated or truncated, the Observation beside it
    is the first of that place's next session, and the next `step` plays it. Its `user` says whose it is: the same
    number, the same person (a policy's memory goes on); another number, somebody new (memory starts afresh).

    `step` refuses a slate of another shape than (num_users, slate_size), an item that the catalog does not have or that
    is no candidate, an item twice, and a log-propensity that is above 0 or NaN (`InputError`). Item 0 at a list's end
    is an empty place. Nothing may be shown before the first `reset`.
    """

    num_users: int
    """B."""
    slate_size: int
    """K."""
    catalog: Catalog

    def reset(self, *, seed: int) -> Observation: ...
    def step(self, slates: Slates, /) -> tuple[Step, Observation]: ...


@runtime_checkable
class KnowsQuality(Protocol):
    """An environment that knows the true quality of every candidate, which no policy sees."""

    @property
    def quality(self) -> Float[Tensor, "B C"]: ...


@runtime_checkable
class ContextOfCandidates(Protocol):
    """An environment whose context has one number per candidate; every other's describes the user."""

    context_of_candidates: Literal[True]


@runtime_checkable
class HasReferencePolicies(Protocol):
    """An environment with policies that look into it, by name: `myopic`, `oracle`.

    The first sentence of a builder's docstring says what its policy does.
    """

    def reference_policies(self) -> Mapping[str, Callable[[], Policy]]: ...


@runtime_checkable
class Estimator(Protocol):
    """Log + log-probabilities of the judged policy → what that policy would have earned."""

    def estimate(
        self,
        trajectories: Trajectories,
        evaluation_logp: Float[Tensor, "B T K"],
        values: Float[Tensor, "B T"] | None = None,
    ) -> Estimate: ...


@runtime_checkable
class Retriever(Protocol):
    """Nearest items by inner product. Item numbers are the caller's."""

    def __len__(self) -> int: ...
    def fit(self: Own, vectors: Float[Tensor, "N E"], items: Int[Tensor, "N"] | None = None) -> Own: ...
    def search(self, query: Float[Tensor, "B E"], c: int) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]: ...
    def add(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, "N"]) -> None: ...
    def remove(self, items: Int[Tensor, "N"]) -> None: ...
    def replace(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, "N"]) -> None: ...


class StateStore(Protocol):
    """Carries by user name; durable when `put` returns, as far as the store's kind allows."""

    def get(self, user: str, /) -> bytes | None: ...
    def put(self, user: str, carry: bytes, /) -> None: ...
    def close(self) -> None: ...


class EventLog(Protocol):
    """Append-only records of decisions and outcomes; what it holds, `data import` reads."""

    def append(self, records: Sequence[dict[str, Any]], /) -> None: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def close(self) -> None: ...


class BuildsEncoder(Protocol):
    """Constructor of an encoder; without a generator its weights are to be loaded."""

    def __call__(self, config: Any, catalog: Catalog, /, *, generator: Generator | None = None) -> StateEncoder: ...


class BuildsPolicy(Protocol):
    """Constructor of a method's policy; without a generator its weights are to be loaded."""

    def __call__(
        self, config: Any, encoder: StateEncoder, catalog: Catalog, /, *, generator: Generator | None = None
    ) -> Policy: ...


class BuildsLearner(Protocol):
    """Constructor of a method's learner, its policy included."""

    def __call__(self, config: Any, encoder: StateEncoder, catalog: Catalog, /, *, generator: Generator) -> Learner: ...


class BuildsEnv(Protocol):
    """Constructor of an environment."""

    def __call__(self, config: Any, /, *, num_users: int) -> Env: ...


@runtime_checkable
class EncoderModule(Protocol):
    """What a file in encoders/ defines; `Config` is a frozen dataclass with a default for every field."""

    Config: type[Any]
    Encoder: BuildsEncoder


@runtime_checkable
class MethodModule(Protocol):
    """What a file or folder in methods/ defines."""

    Config: type[Any]
    Policy: BuildsPolicy
    Learner: BuildsLearner
    DEFAULT_ENCODER: str
    """Encoder of a configuration that names none."""


@runtime_checkable
class EnvModule(Protocol):
    """What a file or folder in sim/ defines."""

    Config: type[Any]
    Env: BuildsEnv
