"""Where β̂ comes from, and slates of several items."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Generator, Tensor, nn

from slatewise.encoders import cfn
from slatewise.errors import InputError
from slatewise.log import LogPart
from slatewise.methods import reinforce
from slatewise.methods.reinforce import BehaviourConfig, ImitationConfig, NegativesConfig
from slatewise.nn.behaviour import BehaviourByPolicy, BehaviourFrequency, BehaviourHead
from slatewise.nn.softmax import SoftmaxHead
from slatewise.ops.negatives import uniform
from slatewise.testing import check_method, toy_catalog, toy_log, written_log
from slatewise.types import used_at_once

BY_TWO = BehaviourConfig(model="by_policy", logging_policies=2)


def learner(**settings: Any) -> reinforce.Learner:
    catalog = toy_catalog()
    generator = Generator().manual_seed(0)
    encoder = cfn.Encoder(
        cfn.Config(width=6, item_width=5, reward_edges=(), context_width=2), catalog, generator=generator
    )
    return reinforce.Learner(reinforce.Config(slate_size=3, **settings), encoder, catalog, generator=generator)


@pytest.mark.parametrize("behaviour", ["separate", "frequency", "by_policy"])
@pytest.mark.parametrize("num_negatives", [0, 8])
def test_every_form_keeps_the_contract(behaviour: str, num_negatives: int) -> None:
    policies = 4 if behaviour == "by_policy" else 0
    settings = {"behaviour": {"model": behaviour, "logging_policies": policies}, "negatives": {"count": num_negatives}}
    check_method("reinforce", settings=settings)


def test_every_logging_policy_has_its_head() -> None:
    head = BehaviourByPolicy(3, 6, 2, generator=Generator().manual_seed(0))
    state, slate = torch.eye(3), torch.tensor([[2], [3], [4]])
    found = head.log_beta(state, slate, torch.tensor([1, 0, 1]))
    for row, number in enumerate((1, 0, 1)):
        alone = head.heads[number]
        assert isinstance(alone, BehaviourHead)
        own = alone.log_beta(state[[row]], slate[[row]], torch.tensor([number]))
        torch.testing.assert_close(found[row], own[0])
        every = head.log_betas(state, torch.tensor([1, 0, 1]))[row]
        torch.testing.assert_close(every[slate[row]], own[0])
    with pytest.raises(
        ValueError, match=r"policy number 2, there are heads for 2: set method\.behaviour\.logging_policies to 3"
    ):
        head.log_beta(state, slate, torch.tensor([1, 0, 2]))


def test_heads_of_two_policies_learn_what_each_shows() -> None:
    machine, log = learner(behaviour=BY_TWO, negatives=NegativesConfig(count=0), lr=0.05), toy_log(toy_catalog())
    policy_id = (torch.arange(len(log.mask)) % 2).unsqueeze(1).expand_as(log.policy_id)
    # policy 0 shows item 2 first, policy 1 item 3
    slate = log.slate.clone()
    slate[:, :, 0] = 2 + policy_id
    for column in range(1, slate.shape[2]):
        slate[:, :, column] = 0
    used = torch.zeros_like(log.used)
    used[:, :, 0] = log.mask
    log = log.replace(slate=slate, policy_id=policy_id, **used_at_once(used, time=log.time, reward=log.reward))
    for _ in range(60):
        machine.update(log)
    with torch.no_grad():
        state = machine.policy.behaviour_states(log)[:1, 0].expand(2, -1)
        beta = machine.policy.log_behaviour(state, torch.tensor([0, 1])).exp()
    assert float(beta[0, 2]) > 0.9
    assert float(beta[1, 3]) > 0.9


def earned(*rewards: float, policy: int = 1) -> LogPart:
    """A log of single items with these rewards."""
    return LogPart.whole(written_log([[{"items": [2], "rewards": [reward], "policy": policy} for reward in rewards]]))


def test_logs_that_teach_nothing_are_refused() -> None:
    machine = learner(behaviour=BY_TWO, reward_at_least=4.0)
    machine.check_log(earned(1.0, 5.0))
    message = (
        r"below reward_at_least = 4; the highest is 3, so there is nothing to learn from "
        r"\(--set method\.reward_at_least=3 counts it\)"
    )
    with pytest.raises(ValueError, match=message):
        machine.check_log(earned(1.0, 3.0))
    with pytest.raises(ValueError, match=r"names 2 policies, logging_policies is 2; expected 3"):
        machine.check_log(earned(5.0, policy=2))
    with pytest.raises(ValueError, match=r"every reward of the training part is 0, so there is nothing to learn from"):
        learner().check_log(earned(0.0, 0.0, 0.0, policy=0))
    with pytest.raises(ValueError, match="the catalog has one item"):
        reinforce.Policy(reinforce.Config(slate_size=1), machine.policy.encoder, toy_catalog(1))
    with pytest.raises(ValueError, match=r"logging_policies is 0 with model .by_policy."):
        BehaviourConfig(model="by_policy")


def test_an_item_that_the_catalog_does_not_have() -> None:
    machine, log = learner(), toy_log(toy_catalog())
    slate = log.slate.clone()
    slate[0, 0, 0] = toy_catalog().num_rows
    with pytest.raises(InputError, match=r"a slate shows item number \d+, the catalog ends at \d+"):
        machine.update(log.replace(slate=slate))


def test_frequency_by_hand() -> None:
    head = BehaviourFrequency(5)
    head.count(torch.tensor([2, 2, 4]))
    nobody = torch.tensor([0])
    beta = head.log_beta(torch.zeros(1, 1), torch.tensor([[2, 3, 4]]), nobody).exp()
    torch.testing.assert_close(beta, torch.tensor([[3 / 6, 1 / 6, 2 / 6]]))
    torch.testing.assert_close(
        head.log_betas(torch.zeros(1, 1), nobody).exp(), torch.tensor([[0.0, 0.0, 3 / 6, 1 / 6, 2 / 6]])
    )


def test_frequency_counts_what_may_be_learned_from() -> None:
    machine, log = learner(behaviour=BehaviourConfig(model="frequency")), toy_log(toy_catalog())
    burnt_in = log.replace(learn=log.learn & (torch.arange(log.learn.shape[1]) >= 3))
    machine.update(burnt_in)
    assert isinstance(machine.policy.behaviour, BehaviourFrequency)
    expected = torch.bincount(log.slate[burnt_in.learn].flatten(), minlength=toy_catalog().num_rows)
    assert torch.equal(machine.policy.behaviour.shown, expected)


def _moved(behaviour: Literal["shared", "separate"]) -> tuple[bool, bool]:
    """Whether learning β̂ alone moves the encoder of π, and an encoder of its own."""
    machine, log = learner(behaviour=BehaviourConfig(model=behaviour)), toy_log(toy_catalog())
    nothing = log.replace(reward=torch.zeros_like(log.reward))
    before = {name: value.clone() for name, value in machine.policy.state_dict().items()}
    machine.update(nothing)
    moved = {name for name, value in machine.policy.state_dict().items() if not torch.equal(value, before[name])}
    return any(name.startswith("encoder.") for name in moved), any(
        name.startswith("behaviour_encoder.") for name in moved
    )


def test_beta_moves_no_encoder_but_its_own() -> None:
    assert _moved("shared") == (False, False)
    assert _moved("separate") == (False, True)


@pytest.mark.parametrize("negatives", [None, 7])
def test_items_of_a_slate_are_single_draws(negatives: int | None) -> None:
    generator = Generator().manual_seed(1)
    head = SoftmaxHead(4, 22, temperature=0.7, generator=generator)
    with torch.no_grad():
        head.bias.weight.normal_(generator=generator)
    state = torch.randn(5, 4, generator=generator)
    slate = torch.rand(5, 20, generator=generator).argsort(dim=1)[:, :3] + 2
    drawn = None if negatives is None else uniform(negatives, first=2, last=21, generator=generator)
    together = head.log_prob_slate(state, slate, drawn)
    alone = torch.stack([head.log_prob(state, slate[:, k].contiguous(), drawn) for k in range(3)], dim=1)
    torch.testing.assert_close(together, alone)


def test_a_slate_teaches_as_its_items_one_by_one() -> None:
    # the same picks logged as slates of three, and as three rows of one item with the state of the slate's step
    catalog, log = toy_catalog(), toy_log(toy_catalog(), steps=1)
    machine = learner(gamma=0.0)
    machine.update(log)

    def split(value: Tensor) -> Tensor:
        return value.transpose(1, 2).reshape(-1, 1, 1)

    rows = {
        name: getattr(log, name).repeat_interleave(3, dim=0)
        for name in ("event_id", "policy_id", "user", "time", "terminated", "truncated", "logp_known", "mask", "learn")
    }
    single = log.replace(
        **rows,
        **{
            name: split(getattr(log, name))
            for name in ("slate", "logp", "reward", "cost", "used", "used_time", "use_reward")
        },
        context=log.context.repeat_interleave(3, dim=0),
    )
    # β̂ on both sides: single items would be weighted by their propensities
    other = learner(gamma=0.0, behaviour=BehaviourConfig(propensities="estimated"))
    other.update(single)
    assert catalog.num_items == 20
    for name, value in machine.policy.state_dict().items():
        torch.testing.assert_close(other.policy.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_stop_gradient_can_be_lifted() -> None:
    state = torch.randn(2, 3, generator=Generator().manual_seed(0), requires_grad=True)
    slate = torch.tensor([[2], [3]])
    for stop in (True, False):
        head = BehaviourHead(3, 6, stop_gradient=stop, generator=Generator().manual_seed(1))
        assert isinstance(head, nn.Module)
        (gradient,) = torch.autograd.grad(
            head.log_beta(state, slate, torch.zeros(len(slate), dtype=torch.int64)).sum(), state, allow_unused=True
        )
        assert (gradient is None) == stop


def test_the_rate_changes_when_rewards_begin_to_count() -> None:
    machine, log = learner(imitation=ImitationConfig(epochs=1.0, lr=0.01), lr=1e-9), toy_log(toy_catalog())
    with pytest.raises(ValueError, match="imitation is measured in epochs: call plan"):
        machine.update(log)
    machine.plan(updates_per_epoch=1, epochs=2)
    steps = []
    for _ in range(2):
        before = {name: value.clone() for name, value in machine.policy.state_dict().items()}
        machine.update(log)
        after = machine.policy.state_dict()
        steps.append(max(float((after[name] - old).abs().max()) for name, old in before.items() if old.numel()))
    # Adam's steps are as long as its rate
    assert 0.005 < steps[0] < 0.02
    assert 0 <= steps[1] < 1e-7
    with pytest.raises(ValueError, match=r"lr is 0\.0; expected a number above 0"):
        ImitationConfig(lr=0.0)
    with pytest.raises(ValueError, match=r"epochs is -1.0; expected 0 or more"):
        ImitationConfig(epochs=-1.0)
