"""The checks themselves: each of these components breaks one promise, and the check names it."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.encoders import window
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import FIRST_ITEM
from slatewise.methods import cloning, popularity
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Carry
from slatewise.testing import ContractError, check_encoder, check_method, check_policy, toy_catalog
from slatewise.types import Observation, SlateRequest, Slates, Trajectories, Uses

STATE = torch.zeros(4, 1)


class Fixed(RankedPolicy):
    """Scores that do not depend on the state: a correct policy to break."""

    def __init__(self) -> None:
        super().__init__(StatelessEncoder(), toy_catalog().num_rows)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        logits = torch.linspace(0.0, 2.0, self.num_rows)
        return logits.expand(len(state), -1) if items is None else logits[items]


def test_a_correct_policy_passes() -> None:
    check_policy(Fixed(), toy_catalog(), STATE)


class WrongPropensity(Fixed):
    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        slates = super().recommend(state, request, generator=generator)
        return Slates(items=slates.items, logp=slates.logp - 0.01)


class IgnoresExclusions(Fixed):
    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        return super().recommend(state, replace(request, exclude=None), generator=generator)


class IgnoresFixedPositions(Fixed):
    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        return super().recommend(state, replace(request, fixed=None), generator=generator)


class ForgetsFixedPositions(Fixed):
    """Propensities know nothing of the fixed positions."""

    def log_prob(self, state: Tensor, slate: Tensor, request: SlateRequest) -> Tensor:
        return super().log_prob(state, slate, replace(request, fixed=None))

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        items = super().recommend(state, request, generator=generator).items
        logp = self.log_prob(state, items, request)
        return Slates(items=items, logp=torch.where(torch.isfinite(logp), logp, 0.0))


class ShowsTwice(Fixed):
    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        slates = super().recommend(state, request, generator=generator)
        return Slates(items=slates.items[:, :1].expand(-1, request.k).clone(), logp=slates.logp)


class IgnoresTemperature(Fixed):
    """Says one procedure, draws by another."""

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        if request.exploration is None:
            return super().recommend(state, request, generator=generator)
        hot = replace(request, exploration=replace(request.exploration, temperature=100.0))
        items = super().recommend(state, hot, generator=generator).items
        return Slates(items=items, logp=self.log_prob(state, items, request))


class Unnormalised(Fixed):
    def log_prob(self, state: Tensor, slate: Tensor, request: SlateRequest) -> Tensor:
        return super().log_prob(state, slate, request) + (0.1 if request.exploration is not None else 0.0)

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        items = super().recommend(state, request, generator=generator).items
        return Slates(items=items, logp=self.log_prob(state, items, request).clamp(max=0.0))


class AllowsExcluded(Fixed):
    """Propensities know nothing of the exclusions."""

    def log_prob(self, state: Tensor, slate: Tensor, request: SlateRequest) -> Tensor:
        return super().log_prob(state, slate, replace(request, exclude=None))

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        items = super().recommend(state, request, generator=generator).items
        logp = self.log_prob(state, items, request)
        return Slates(items=items, logp=torch.where(torch.isfinite(logp), logp, 0.0))


class GlobalRandomness(Fixed):
    def scores(self, state: Tensor, items: Tensor | None) -> Tensor:
        torch.rand(1)
        return super().scores(state, items)


class Restless(Fixed):
    """Has a generator of its own beside the one it is given."""

    own = Generator().manual_seed(0)

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        return super().recommend(state, request, generator=self.own if generator else None)


class ImproperSingleDraws(Fixed):
    def log_pi(self, state: Tensor, items: Tensor) -> Tensor:
        return self.scores(state, items)


class OtherInnerProducts(Fixed):
    """Offers vectors whose products are twice the scores."""

    def vectors(self) -> Float[Tensor, "N E"]:
        return 2.0 * torch.linspace(0.0, 2.0, self.num_rows)[FIRST_ITEM:].unsqueeze(1)

    def item_bias(self) -> Float[Tensor, " N"] | None:
        return None

    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        return torch.ones(len(state), 1)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (WrongPropensity(), r"log_prob of what was served.*numbers differ"),
        (IgnoresExclusions(), r"with exclusions.*the slate \[.*\] was served; expected 3 different items of"),
        (IgnoresFixedPositions(), r"with fixed positions.*expected the items \[.*\] where they are not 0"),
        (ForgetsFixedPositions(), r"has a probability above 0; expected −inf|log_prob of what was served"),
        (ShowsTwice(), r"was served; expected 3 different items"),
        (IgnoresTemperature(), r"of 4000 slates were .* standard deviations away"),
        (Unnormalised(), r"sum to 1\.2\d*; expected 1|log_prob of what was served"),
        (AllowsExcluded(), r"has a probability above 0; expected −inf|log_prob of what was served"),
        (GlobalRandomness(), r"draws from the global random state of torch"),
        (Restless(), r"other slates from an equal generator"),
        (ImproperSingleDraws(), r"Σ π\(a\|s\) over all real items"),
        (OtherInnerProducts(), r"π by the inner products of query and vectors, against log_pi"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fixed) else "",
)
def test_a_broken_policy_is_told_what_was_expected(policy: Fixed, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_policy(policy, toy_catalog(), STATE)


Make = Callable[..., types.ModuleType]


@pytest.fixture
def stranger() -> Iterator[Make]:
    """Makes an importable module out of another one with some members exchanged."""
    made: list[str] = []

    def make(like: types.ModuleType, **members: Any) -> types.ModuleType:
        module = types.ModuleType(f"stranger_{len(made)}.component", doc="A component of a stranger.")
        names = ("Config", "Policy", "Learner", "Encoder", "DEFAULT_ENCODER")
        vars(module).update({name: getattr(like, name) for name in names if hasattr(like, name)} | members)
        package = module.__name__.split(".", maxsplit=1)[0]
        sys.modules[package] = types.ModuleType(package)
        sys.modules[module.__name__] = module
        made.append(package)
        return module

    yield make
    for package in made:
        sys.modules.pop(package)
        sys.modules.pop(f"{package}.component")


def test_a_strangers_method_passes_by_its_dotted_path(stranger: Make) -> None:
    check_method(stranger(popularity).__name__)


@dataclass
class LooseConfig:
    pace: float = 1.0


class Forgetful(cloning.Learner):
    """Leaves its optimiser out of the checkpoint."""

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().state_dict().items() if not name.startswith("optimiser")}


class LearnsFromAll(popularity.Learner):
    def update(self, trajectories: Trajectories) -> dict[str, float]:
        return super().update(trajectories.replace(learn=torch.ones_like(trajectories.learn)))


class Stuck(cloning.Learner):
    def update(self, trajectories: Trajectories) -> dict[str, float]:
        return {"loss": 1.0}


class NotANumber(cloning.Learner):
    def update(self, trajectories: Trajectories) -> dict[str, float]:
        return super().update(trajectories) | {"loss": float("nan")}


class DrawsItsOwnSeed(cloning.Learner):
    """Starts from a number of its own, which no two of them share."""

    births = itertools.count(1)

    def __init__(self, *args: Any, generator: Generator) -> None:
        super().__init__(*args, generator=generator)
        with torch.no_grad():
            self.policy.head.bias.weight[FIRST_ITEM] = next(self.births)


class BornDifferent(popularity.Policy):
    """Holds something that is in no state."""

    def __init__(self, *args: Any, generator: Generator | None = None) -> None:
        super().__init__(*args, generator=generator)
        self.favourite = 2 if generator is None else 3

    def scores(self, state: Tensor, items: Tensor | None) -> Tensor:
        boost = torch.zeros(self.num_rows)
        boost[self.favourite] = 50.0
        return super().scores(state, items) + (boost if items is None else boost[items])

    def item_bias(self) -> Float[Tensor, " N"]:
        bias = torch.zeros(self.num_rows - FIRST_ITEM)
        bias[self.favourite - FIRST_ITEM] = 50.0
        return bias


class BornDifferentLearner(popularity.Learner):
    def __init__(self, config: Any, encoder: Any, catalog: Any, *, generator: Generator) -> None:
        super().__init__(config, encoder, catalog, generator=generator)
        self.policy = BornDifferent(config, encoder, catalog, generator=generator)


@pytest.mark.parametrize(
    ("like", "members", "message"),
    [
        (cloning, {"DEFAULT_ENCODER": None, "Config": LooseConfig}, r"can be changed after it was made"),
        (cloning, {"Learner": Forgetful}, r"restored from its state.*against the undisturbed one"),
        (popularity, {"Learner": LearnsFromAll}, r"with other numbers in the padding|learn is False everywhere"),
        (cloning, {"Learner": Stuck}, r"no loss falls in 12 updates"),
        (cloning, {"Learner": NotANumber}, r'"loss" = nan; expected a finite float'),
        (cloning, {"Learner": DrawsItsOwnSeed}, r"two learners of the same seed"),
        (popularity, {"Policy": BornDifferent, "Learner": BornDifferentLearner}, r"the policy of an artifact.*slates"),
    ],
    ids=["config", "checkpoint", "burn-in", "loss", "figure", "seed", "artifact"],
)
def test_a_broken_method_is_told_what_was_expected(
    stranger: Make, like: types.ModuleType, members: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        check_method(stranger(like, **members), encoder="window" if like is popularity else "gru")


def test_a_method_without_a_learner_is_told_so(stranger: Make) -> None:
    module = stranger(cloning)
    del module.Learner
    with pytest.raises(ContractError, match="has no Learner; expected Config, Policy, Learner, DEFAULT_ENCODER"):
        check_method(module)


class OneStateShort(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        return super().forward(trajectories)[:, :-1]


class StepForgetsReward(window.Encoder):
    def step(self, carry: Carry, uses: Uses) -> Carry:
        return super().step(carry, replace(uses, reward=torch.zeros_like(uses.reward)))


class ReadsTheFuture(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        shown = torch.where(trajectories.used, trajectories.time.unsqueeze(2), 0)
        return super().forward(trajectories.replace(used_time=shown))


class ReadsWhatCameOfIt(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        return super().forward(trajectories.replace(use_reward=trajectories.reward))


class ReadsWhoIsAbsent(window.Encoder):
    def step(self, carry: Carry, uses: Uses) -> Carry:
        return super().step(carry, replace(uses, present=torch.ones_like(uses.present)))


class ReadsPadding(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        return super().forward(trajectories) + trajectories.slate.sum(dim=(1, 2))[:, None, None]


class ReadsNeighbours(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        states = super().forward(trajectories)
        return states - (states[:, :1].mean() if len(states) == 1 else 0.0) + 0.1 * (len(states) == 1)


class HidesContext(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        return super().forward(trajectories) + trajectories.context.sum(dim=2, keepdim=True)

    def state(self, carry: Carry, observation: Observation) -> Tensor:
        return super().state(carry, observation) + observation.context.sum(dim=1, keepdim=True)


class ReadsNothing(window.Encoder):
    def forward(self, trajectories: Trajectories) -> Tensor:
        return torch.zeros_like(super().forward(trajectories))

    def step(self, carry: Carry, uses: Uses) -> Carry:
        return carry


class ChangesTheCarry(window.Encoder):
    def step(self, carry: Carry, uses: Uses) -> Carry:
        return carry.copy_(super().step(carry, uses))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (OneStateShort, r"states have the shape \(8, 6, 1024\); expected \(8, 7, 1024\)"),
        (StepForgetsReward, r"the state before step \d, rolled out use by use, against `forward`"),
        (ReadsTheFuture, r"the state before step \d, rolled out use by use, against `forward`"),
        (ReadsWhatCameOfIt, r"the state before step \d, rolled out use by use, against `forward`"),
        (ReadsWhoIsAbsent, r"the state before step \d, rolled out use by use, against `forward`"),
        (ReadsPadding, r"the state before step 0, rolled out|in the padding"),
        (ReadsNeighbours, r"user 0 read alone, not in a batch"),
        (HidesContext, r"its context_width is 0; expected 2, which its states read"),
        (ReadsNothing, r"no history moves the state"),
        (ChangesTheCarry, r"`step` changed the carry it was given"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_encoder_is_told_what_was_expected(
    stranger: Make, encoder: type[window.Encoder], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        check_encoder(stranger(window, Encoder=encoder))
