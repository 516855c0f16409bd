"""What every method must keep: a Config, a Policy and a Learner that can be saved, resumed and served."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Generator, Tensor, nn

from slatewise import artifact
from slatewise import config as configs
from slatewise.config.run import Component, RunConfig
from slatewise.log import Catalog
from slatewise.protocols import Learner, Policy
from slatewise.testing._contract import expect, expect_close, expect_same_bits, no_global_randomness
from slatewise.testing._parts import expect_config, load_component, resolve
from slatewise.testing._policies import check_policy
from slatewise.testing._toys import toy_catalog, toy_log, with_noise_in_padding
from slatewise.types import Exploration, Observation, SlateRequest, Trajectories

UPDATES = 12
"""Updates on one batch within which a loss must fall."""


def check_method(
    component: str | ModuleType,
    *,
    settings: dict[str, Any] | None = None,
    encoder: str | None = None,
    encoder_settings: dict[str, Any] | None = None,
) -> None:
    """Hold a method against its contract, its policy before and after learning included (see check_policy).

    The settings come back from TOML; the same seed gives the same bits; padding and burn-in teach nothing; a learner
    restored from its state goes on bit for bit; an artifact gives the same policy back; a gradient learner's loss
    falls.

    Args:
        component: file name in methods/, dotted path, or module with `Config`, `Policy`, `Learner`, `DEFAULT_ENCODER`.
        settings: of its Config; the default Config where None.
        encoder: name of the encoder; the method's default where None.
        encoder_settings: of the encoder's Config.

    Raises:
        ContractError: the message says what was expected.
    """
    module = load_component("methods", component)
    where = module.__name__
    method = _Method(module, settings or {}, encoder or module.DEFAULT_ENCODER, encoder_settings or {})
    expect_config(method.config, where=where)
    with no_global_randomness(where):
        learner = method.learner(seed=0)
        expect(isinstance(learner, Learner), f"{where}: Learner lacks single_pass, policy, update or the state's two")
        fresh = f"{where}, not trained"
        check_policy(_ready(learner.policy), method.catalog, method.states(learner), name=fresh, every_situation=False)
        _check_seed(method)
        _check_padding(method)
        _check_loss(method)
        trained = method.learner(seed=0)
        _updates(trained, method.log, 5)
        check_policy(_ready(trained.policy), method.catalog, method.states(trained), name=f"{where}, trained")
        _check_resumed(method)
        _check_artifact(method, trained)


def check_popularity_fallback(
    component: str | ModuleType, *, settings: dict[str, Any] | None = None, encoder: str | None = None
) -> None:
    """Hold a method whose fallback is popularity to it: unknown users get popularity's slates and propensities.

    Args:
        component: see check_method.
        settings: of its Config; the default Config where None.
        encoder: name of the encoder; the method's default where None.

    Raises:
        ContractError: the message says what was expected.
    """
    module = load_component("methods", component)
    where = module.__name__
    method = _Method(module, settings or {}, encoder or module.DEFAULT_ENCODER, {})
    popular = _Method(load_component("methods", "popularity"), {}, method.encoder, {})
    requests = {
        "the best items": SlateRequest(k=5),
        "drawn": SlateRequest(k=5, exploration=Exploration(top_m=8, keep=1)),
        "without excluded items": SlateRequest(k=3, exclude=torch.tensor([[2, 3, 4]])),
        "of candidates": SlateRequest(k=3, candidates=torch.tensor([[9, 4, 6, 2, 11]])),
    }
    policies, states = [], []
    for each in (method, popular):
        learner = each.learner(seed=0)
        _updates(learner, each.log, 1)
        policies.append(_ready(learner.policy))
        states.append(each.states(learner)[-1:])
    for name, request in requests.items():
        with torch.no_grad():
            slates, expected = (
                policy.recommend(state, request, generator=Generator().manual_seed(0))
                for policy, state in zip(policies, states, strict=True)
            )
            logp = policies[0].log_prob(states[0], slates.items, request)
        message = f"{where}: the slate of an unknown user, {name}, against popularity's"
        expect_close(slates.items, expected.items, message, tolerance=0.0)
        expect_close(slates.logp, expected.logp, f"{message}: logp", tolerance=1e-6)
        expect_close(logp, slates.logp, f"{where}: log_prob of it against logp", tolerance=1e-6)


@dataclass(frozen=True)
class _Method:
    """A method with what it is checked on."""

    module: ModuleType
    settings: dict[str, Any]
    encoder: str
    encoder_settings: dict[str, Any]

    @property
    def where(self) -> str:
        return self.module.__name__

    @cached_property
    def config(self) -> Any:
        return configs.convert(self.module.Config, self.settings, where=self.where)

    @cached_property
    def encoder_config(self) -> Any:
        config = configs.convert(configs.find("encoders", self.encoder).Config, self.encoder_settings, where=self.where)
        return resolve(config, self.log)

    @cached_property
    def catalog(self) -> Catalog:
        return toy_catalog()

    @cached_property
    def log(self) -> Trajectories:
        return toy_log(self.catalog)

    def learner(self, *, seed: int) -> Learner:
        generator = Generator().manual_seed(seed)
        encoder = configs.find("encoders", self.encoder).Encoder(self.encoder_config, self.catalog, generator=generator)
        learner: Learner = self.module.Learner(self.config, encoder, self.catalog, generator=generator)
        return learner

    def states(self, learner: Learner) -> Tensor:
        """Of the users of the log, and of an unknown one."""
        encoder, first = _ready(learner.policy).encoder, self.log.observation(0)
        nobody = Observation(user=first.user[:1], context=first.context[:1])
        with torch.no_grad():
            return torch.cat([encoder(self.log)[:, -1], encoder.state(encoder.initial(1), nobody)])

    def run_config(self) -> RunConfig:
        return RunConfig(
            method=Component(name=self.where, settings=self.config),
            encoder=Component(name=self.encoder, settings=self.encoder_config),
        )


def _check_seed(method: _Method) -> None:
    first, second = (method.learner(seed=3) for _ in range(2))
    for learner in (first, second):
        _updates(learner, method.log, 3)
    message = f"{method.where}: two learners of the same seed after the same updates"
    expect_same_bits(second.policy.state_dict(), first.policy.state_dict(), message)
    expect_same_bits(second.state_dict(), first.state_dict(), message)


def _check_padding(method: _Method) -> None:
    clean, noisy = (method.learner(seed=0) for _ in range(2))
    _updates(clean, method.log, 2)
    _updates(noisy, with_noise_in_padding(method.log, num_rows=method.catalog.num_rows), 2)
    message = f'{method.where}: "NAME" learned with other numbers in the padding'
    for name, value in clean.policy.state_dict().items():
        found_value = noisy.policy.state_dict()[name]
        expect_close(found_value, value, message.replace("NAME", name), tolerance=1e-6)
    idle = method.learner(seed=0)
    weights = {name: value.clone() for name, value in idle.policy.state_dict().items()}
    _updates(idle, method.log.replace(learn=torch.zeros_like(method.log.learn)), 1)
    message = f"{method.where}: after a batch of which nothing may be learned (learn is False everywhere)"
    expect_same_bits(idle.policy.state_dict(), weights, message)


def _check_loss(method: _Method) -> None:
    learner = method.learner(seed=0)
    figures = _updates(learner, method.log, UPDATES)
    losses = {name for name in figures[0] if name.endswith("loss")}
    if learner.single_pass:
        return
    expect(bool(losses), f'{method.where}: update reports {sorted(figures[0])}; expected a figure named "…loss"')
    falls = {name: (_mean(figures[:3], name), _mean(figures[-3:], name)) for name in losses}
    expect(
        any(last < first for first, last in falls.values()),
        f"{method.where}: no loss falls in {UPDATES} updates on one batch; means of the first and last three: {falls}",
    )


def _check_resumed(method: _Method) -> None:
    whole = method.learner(seed=0)
    _updates(whole, method.log, 3)
    state = whole.state_dict()
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    expect(
        not wrong, f"{method.where}: state_dict holds {wrong}, which are no tensors; expected a flat table of tensors"
    )
    # over bytes, as a checkpoint does it; into a learner of another seed, so that the state must hold all
    stored = load(save({name: value.clone().contiguous() for name, value in state.items()}))
    resumed = method.learner(seed=1)
    resumed.load_state_dict(stored)
    for learner in (whole, resumed):
        _updates(learner, method.log, 3)
    message = f"{method.where}: a learner restored from its state, three updates later, against the undisturbed one"
    expect_same_bits(resumed.policy.state_dict(), whole.policy.state_dict(), message)
    expect_same_bits(resumed.state_dict(), whole.state_dict(), message)


def _check_artifact(method: _Method, trained: Learner) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact"
        artifact.save(
            path,
            policy=trained.policy,
            catalog=method.catalog,
            config=method.run_config(),
            metrics={},
            source=artifact.Source(),
        )
        loaded = artifact.load(path, allow_modules=True).policy
    message = f"{method.where}: the policy of an artifact, against the one that was saved"
    expect_same_bits(loaded.state_dict(), trained.policy.state_dict(), message)
    state = method.states(trained)
    with torch.no_grad():
        expect_close(
            loaded.encoder(method.log)[:, -1], state[: len(method.log.mask)], f"{message}: states", tolerance=0.0
        )
        slates = [
            policy.recommend(state, SlateRequest(k=5), generator=Generator().manual_seed(0))
            for policy in (loaded, trained.policy)
        ]
    expect_close(slates[0].items, slates[1].items, f"{message}: slates", tolerance=0.0)


def _updates(learner: Learner, log: Trajectories, count: int) -> list[dict[str, float]]:
    figures = [learner.update(log) for _ in range(count)]
    for number, report in enumerate(figures):
        for name, value in report.items():
            expect(
                isinstance(value, float) and math.isfinite(value),
                f'{type(learner).__module__}: update {number} reports "{name}" = {value!r}; expected a finite float',
            )
    return figures


def _ready(policy: Policy) -> Policy:
    return policy.eval() if isinstance(policy, nn.Module) else policy


def _mean(figures: list[dict[str, float]], name: str) -> float:
    return sum(report[name] for report in figures) / len(figures)
