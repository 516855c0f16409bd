"""REINFORCE with sampled softmax, item tables learned by row, and retrieval."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from slatewise.encoders import cfn
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.methods import reinforce
from slatewise.methods.reinforce import NegativesConfig
from slatewise.nn.negatives import Sampler
from slatewise.retrieval.approximate import Approximate
from slatewise.retrieval.exact import Exact
from slatewise.sim.toys import catalog
from slatewise.types import Exploration, SlateRequest, Trajectories, used_at_once

NUM_ITEMS = 60
SAMPLERS: tuple[Sampler, ...] = ("uniform", "log_uniform", "popularity", "in_batch")


def _learner(num_items: int = NUM_ITEMS, seed: int = 3, **settings: Any) -> reinforce.Learner:
    generator = torch.Generator().manual_seed(seed)
    encoder = cfn.Encoder(
        cfn.Config(width=8, item_width=8, reward_edges=(), context_width=0), catalog(num_items), generator=generator
    )
    config = reinforce.Config(**({"slate_size": 4} | settings))
    return reinforce.Learner(config, encoder, catalog(num_items), generator=generator)


def _log(users: int = 32, steps: int = 6, num_items: int = NUM_ITEMS, seed: int = 0) -> Trajectories:
    """Users of two tastes: even users are shown and like the lower half of the catalog, odd ones the upper."""
    g = torch.Generator().manual_seed(seed)
    half = num_items // 2
    item = torch.randint(2, 2 + half, (users, steps, 1), generator=g)
    item[1::2] += half
    yes, no = torch.ones(users, steps, dtype=torch.bool), torch.zeros(users, steps, dtype=torch.bool)
    ends = no.clone()
    ends[:, -1] = True
    time = torch.arange(steps).expand(users, steps) * 1_000_000
    reward = (torch.rand(users, steps, 1, generator=g) < 0.7).float()
    return Trajectories(
        event_id=torch.arange(users * steps).view(users, steps),
        policy_id=torch.zeros(users, steps, dtype=torch.int64),
        user=torch.arange(users).unsqueeze(1).expand(users, steps),
        time=time,
        terminated=ends,
        truncated=no,
        slate=item,
        logp=torch.zeros(users, steps, 1),
        logp_known=no,
        reward=reward,
        cost=torch.zeros(users, steps, 1),
        **used_at_once(yes.unsqueeze(2), time=time, reward=reward),
        mask=yes,
        learn=yes,
        context=torch.zeros(users, steps + 1, 0),
    )


def test_as_many_negatives_as_items_give_the_exact_loss() -> None:
    exact, sampled = (
        _learner(negatives=NegativesConfig(count=0)),
        _learner(negatives=NegativesConfig(count=NUM_ITEMS, sampler="uniform")),
    )
    before, after = exact.update(_log()), sampled.update(_log())
    assert before == pytest.approx(after, rel=1e-4)


def test_small_catalogs_are_exact_and_large_ones_sampled_by_default() -> None:
    assert _learner().sampler is None
    large = _learner(num_items=50_001)
    assert large.sampler is not None
    assert large.sampler.count == 2048
    assert sorted(large.tables.tables) == [
        "behaviour.softmax.bias",
        "behaviour.softmax.item",
        "encoder.reader.item",
        "head.bias",
        "head.item",
    ]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_learns_whose_taste_is_whose(sampler: Sampler) -> None:
    learner = _learner(negatives=NegativesConfig(count=16, sampler=sampler), gamma=0.0, correction="none")
    losses = [learner.update(_log(seed=step))["behaviour_loss"] for step in range(150)]
    log = _log(seed=999)
    with torch.no_grad():
        state = learner.policy.encoder(log)[:, -1]
        chances = learner.policy.log_pi(state, torch.arange(2, NUM_ITEMS + 2).expand(len(state), -1)).exp()
    lower = chances[:, : NUM_ITEMS // 2].sum(dim=1)
    assert float(lower[0::2].mean()) > 0.9
    assert float(lower[1::2].mean()) < 0.1
    # the behaviour head's own estimate comes near the entropy of half a catalog
    assert sum(losses[-20:]) / 20 < math.log(NUM_ITEMS / 2) + 0.35


def test_a_step_moves_only_rows_that_it_read() -> None:
    learner = _learner(num_items=1000, negatives=NegativesConfig(count=20, sampler="uniform"))
    before = {name: table.weight.clone() for name, table in learner.tables.tables.items()}
    learner.update(_log(num_items=1000))
    for name, table in learner.tables.tables.items():
        moved = (table.weight != before[name]).any(dim=1)
        assert 0 < int(moved.sum()) <= 32 * 6 + 20, name
        assert not bool(moved[:2].any()), name
        assert table.weight.grad is None, name


def test_same_seed_same_weights() -> None:
    one, other = _learner(negatives=NegativesConfig(count=16)), _learner(negatives=NegativesConfig(count=16))
    for step in range(3):
        one.update(_log(seed=step))
        other.update(_log(seed=step))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_run_goes_on_bit_for_bit(sampler: Sampler) -> None:
    whole = _learner(negatives=NegativesConfig(count=16, sampler=sampler))
    for step in range(3):
        whole.update(_log(seed=step))
    saved = {name: value.clone() for name, value in whole.state_dict().items()}
    resumed = _learner(seed=77, negatives=NegativesConfig(count=16, sampler=sampler))
    resumed.load_state_dict(saved)
    for step in range(3, 6):
        whole.update(_log(seed=step))
        resumed.update(_log(seed=step))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_loss_that_is_not_finite_leaves_every_row_and_the_next_step_unharmed() -> None:
    learner = _learner(negatives=NegativesConfig(count=16))
    before = learner.policy.head.item.weight.clone()
    log = _log()
    with pytest.raises(FloatingPointError, match="the loss is"):
        learner.update(log.replace(reward=torch.full_like(log.reward, float("inf"))))
    assert torch.equal(learner.policy.head.item.weight, before)
    learner.update(log)
    assert bool(torch.isfinite(learner.policy.head.item.weight).all())


@pytest.mark.parametrize("exploration", [None, Exploration(top_m=12, keep=2, temperature=0.7)])
def test_slates_from_a_retriever_are_those_from_the_whole_catalog(exploration: Exploration | None) -> None:
    learner = _learner(negatives=NegativesConfig(count=16))
    for step in range(5):
        learner.update(_log(seed=step))
    policy = learner.policy
    state = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    exclude = torch.randint(0, NUM_ITEMS + 2, (20, 7), generator=torch.Generator().manual_seed(1))

    def serve() -> Any:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            request = SlateRequest(k=5, exclude=exclude, exploration=exploration)
            slates = policy.recommend(state, request, generator=generator)
            again = policy.log_prob(state, slates.items, request)
        torch.testing.assert_close(slates.logp, again)
        return slates

    whole = serve()
    policy.retrieve_with(Exact())
    found = serve()
    assert torch.equal(whole.items, found.items)
    torch.testing.assert_close(whole.logp, found.logp, rtol=1e-4, atol=1e-5)


def test_an_item_taken_out_of_the_index_is_shown_no_more_and_propensities_stay_exact() -> None:
    policy = _learner(negatives=NegativesConfig(count=16)).policy
    retriever = Approximate()
    policy.retrieve_with(retriever)
    gone = torch.arange(2, 2 + NUM_ITEMS, 2)
    retriever.remove(gone)
    state = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    request, generator = SlateRequest(k=6, exploration=Exploration(top_m=40, keep=1)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        slates = policy.recommend(state, request, generator=generator)
        again = policy.log_prob(state, slates.items, request)
        scores = policy.scores(state, torch.arange(3, 3 + NUM_ITEMS, 2).expand(50, -1))
    assert not bool(torch.isin(slates.items, gone).any())
    torch.testing.assert_close(slates.logp, again)
    # the first slot is fixed; the second is one draw by softmax from all that is left
    first = torch.topk(scores, 2).values
    urn = torch.logsumexp(scores.masked_fill(scores == first[:, :1], -math.inf), dim=1)
    second = (scores * (slates.items[:, 1:2] == torch.arange(3, 3 + NUM_ITEMS, 2))).sum(dim=1)
    torch.testing.assert_close(slates.logp[:, 0], torch.zeros(50))
    torch.testing.assert_close(slates.logp[:, 1], second - urn, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": -1}, "count is -1"),
        ({"table_lr": 0.0}, "table_lr is 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativesConfig(**settings)


def test_an_encoder_without_weights_leaves_all_learning_to_the_tables() -> None:
    generator = torch.Generator().manual_seed(3)
    config = reinforce.Config(correction="standard", negatives=NegativesConfig(count=16))
    learner, other = (
        reinforce.Learner(config, StatelessEncoder(), catalog(NUM_ITEMS), generator=generator) for _ in "ab"
    )
    assert learner.parameters == []
    before = learner.policy.item_bias().clone()
    learner.update(_log())
    assert not torch.equal(learner.policy.item_bias(), before)
    other.load_state_dict(learner.state_dict())
    torch.testing.assert_close(other.policy.item_bias(), learner.policy.item_bias(), rtol=0, atol=0)
