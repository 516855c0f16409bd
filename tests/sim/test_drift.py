from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.log import PAD
from slatewise.policies.topic import TopicDraws, TopicHistory
from slatewise.protocols import Env, Policy, StateEncoder
from slatewise.rollout.returns import returns
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim import drift
from slatewise.sim._slates import check_slates
from slatewise.types import SlateRequest, Slates

SMALL = drift.Config(
    num_items=300, num_topics=6, slate_size=4, lifetime=8, width=8, choice=drift.ChoiceConfig(null_utility=2.0)
)
ALWAYS_PICKS = drift.ChoiceConfig(null_utility=-30.0)


def slates(items: list[list[int]]) -> Slates:
    return Slates(items=torch.tensor(items), logp=torch.zeros(len(items), len(items[0])))


def random_slates(env: drift.Env, generator: Generator) -> Slates:
    noise = torch.rand(env.num_users, env.catalog.num_items, generator=generator)
    return Slates(items=noise.topk(env.slate_size).indices + 2, logp=torch.zeros(env.num_users, env.slate_size))


def test_same_seed_same_slates_same_steps() -> None:
    def run(seed: int) -> list[torch.Tensor]:
        env = drift.Env(SMALL, num_users=32)
        generator = Generator().manual_seed(1)
        env.reset(seed=seed)
        rewards = []
        for _ in range(20):
            torch.rand(7)  # what others draw makes no difference
            step, _ = env.step(random_slates(env, generator))
            rewards.append(step.reward)
        return rewards

    assert torch.equal(torch.stack(run(5)), torch.stack(run(5)))
    assert not torch.equal(torch.stack(run(5)), torch.stack(run(6)))


def test_reset_forgets_everything() -> None:
    env, other = drift.Env(SMALL, num_users=16), drift.Env(SMALL, num_users=16)
    env.reset(seed=1)
    for _ in range(11):
        env.step(random_slates(env, Generator().manual_seed(0)))
    first, second = env.reset(seed=2), other.reset(seed=2)
    assert torch.equal(first.user, second.user)
    for _ in range(10):
        shown = random_slates(env, Generator().manual_seed(3))
        a, b = env.step(shown)[0], other.step(shown)[0]
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(a.time, b.time)


def test_nothing_that_was_given_changes_later() -> None:
    env = drift.Env(SMALL, num_users=8)
    env.reset(seed=0)
    shown = random_slates(env, Generator().manual_seed(0))
    step, seen = env.step(shown)
    kept = {name: getattr(step, name).clone() for name in type(step).__dataclass_fields__}
    user = seen.user.clone()
    shown.items.zero_()
    shown.logp.fill_(-1.0)
    for _ in range(12):
        env.step(random_slates(env, Generator().manual_seed(1)))
    for name, value in kept.items():
        assert torch.equal(getattr(step, name), value), name
    assert torch.equal(seen.user, user)


def test_a_stay_ends_after_its_lifetime_and_somebody_new_comes() -> None:
    env = drift.Env(SMALL, num_users=3)
    seen = env.reset(seed=0)
    for t in range(1, 17):
        step, after = env.step(random_slates(env, Generator().manual_seed(t)))
        assert torch.equal(step.user, seen.user)
        assert bool(step.terminated.all()) == (t % 8 == 0)
        assert bool((after.user == seen.user).all()) == (t % 8 != 0)
        seen = after
    assert seen.user.tolist() == [6, 7, 8]


@pytest.mark.parametrize("fatigue", [0.0, 2.0])
def test_a_pick_by_hand(fatigue: float) -> None:
    # one user, one item: P(pick) = e^u / (e^u + e^null); minutes = length · σ(…) without noise
    config = replace(SMALL, slate_size=1, watch=drift.WatchConfig(noise=0.0))
    env = drift.Env(config, num_users=4000)
    env.reset(seed=0)
    env._interest = env._interest[:1].expand(4000, -1).clone()
    item = int((env._interest[0] @ env.items.vector.T).argmax())
    affinity = float(env._interest[0] @ env.items.vector[item])
    topic = int(env.items.topic[item])
    env._fatigue[:, topic] = fatigue
    utility = 4.0 * affinity + float(env.items.appeal[item]) - 0.5 * fatigue
    chance = 1 / (1 + torch.tensor(2.0 - utility).exp().item())
    minutes = float(env.items.length[item]) * torch.sigmoid(
        torch.tensor(-0.5 + 1.5 * affinity + 0.5 * float(env.items.quality[item]))
    )
    before = env._interest.clone()
    step, _ = env.step(slates([[item]] * 4000))
    rate = float((step.choice == 0).float().mean())
    assert rate == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5)
    earned = step.reward[step.choice == 0]
    torch.testing.assert_close(earned, minutes.expand_as(earned))
    assert bool((step.reward[step.choice == -1] == 0).all())
    # interest: z + growth · tanh(quality) · v for those who picked, as it was for the others; .85 of the fatigue, + 1
    moved = before + 0.1 * torch.tanh(env.items.quality[item]) * env.items.vector[item]
    picked = step.choice == 0
    torch.testing.assert_close(env._interest[picked], moved[picked])
    torch.testing.assert_close(env._interest[~picked], before[~picked])
    torch.testing.assert_close(env._fatigue[:, topic], 0.85 * fatigue + picked.float())


def test_a_watched_item_is_not_picked_again_and_repetition_tires() -> None:
    config = replace(
        SMALL,
        slate_size=1,
        choice=ALWAYS_PICKS,
        interest=drift.InterestConfig(growth=0.0),
        lifetime=100,
    )
    env = drift.Env(config, num_users=500)
    env.reset(seed=0)
    step, _ = env.step(slates([[7]] * 500))
    assert bool((step.choice == 0).all())
    step, _ = env.step(slates([[7]] * 500))
    assert bool((step.choice == -1).all())
    same_topic = [int(i) for i in (env.items.topic == env.items.topic[7]).nonzero() if int(i) not in (0, 1, 7)]
    before = env.scores()[:, same_topic[0]].clone()
    env.step(slates([[same_topic[1]]] * 500))
    # fatigue .85 (one pick, one step ago) → .85² + 1: utility falls by .5 (.85² + 1 − .85)
    fatigue_before, fatigue_after = 0.85, 0.85**2 + 1
    ratio = env.scores()[:, same_topic[0]] / before
    expected = torch.tensor(-0.5 * (fatigue_after - fatigue_before)).exp()
    torch.testing.assert_close(ratio, expected.expand(500), rtol=1e-4, atol=1e-5)


def test_an_empty_place_is_never_picked() -> None:
    env = drift.Env(replace(SMALL, choice=ALWAYS_PICKS), num_users=200)
    env.reset(seed=0)
    step, _ = env.step(slates([[9, 5, 0, 0]] * 200))
    assert set(step.choice.tolist()) == {0, 1}
    step, _ = env.step(slates([[0, 0, 0, 0]] * 200))
    assert set(step.choice.tolist()) == {-1}


def test_time_goes_on_whatever_is_shown() -> None:
    env = drift.Env(SMALL, num_users=2000)
    env.reset(seed=0)
    first, _ = env.step(slates([[9, 5, 3, 2]] * 2000))
    second, _ = env.step(slates([[9, 5, 3, 2]] * 2000))
    gap = (second.time - first.time).double() / 60e6
    minutes = first.reward.sum(dim=1).double()
    short = gap < minutes + 1
    torch.testing.assert_close(gap[short], minutes[short] + 0.5, atol=1e-3, rtol=1e-4)
    assert float((~short).double().mean()) == pytest.approx(0.1, abs=0.03)


def test_the_future_matters() -> None:
    # a user model that is known: paying for growth earns more than the best next pick
    env = drift.Env(drift.Config(num_items=2000, num_topics=20, lifetime=30), num_users=200)
    next_pick = returns(env, drift.Oracle(env), seed=0)
    farsighted = returns(env, drift.Oracle(env, growth_price=3.0), seed=0)
    assert farsighted.interval[0] > next_pick.interval[1]


def test_popular_items_are_appealing_and_no_better() -> None:
    items = drift.Env(drift.Config(), num_users=1).items
    rank = items.popularity_rank[2:].double()
    assert sorted(rank.tolist()) == list(range(1, 10_001))

    def correlation(values: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([-rank, values[2:].double()]))[0, 1])

    assert correlation(items.appeal) == pytest.approx(0.49, abs=0.04)  # .5 between normals; ranks lose a little
    assert correlation(items.quality) == pytest.approx(0.0, abs=0.04)
    assert correlation(items.length) == pytest.approx(0.0, abs=0.04)


@pytest.mark.parametrize("world", drift.WORLDS)
def test_logs_name_their_policies_and_exact_propensities(world: str) -> None:
    env = drift.Env(SMALL, num_users=60)
    arms = drift.logging_arms(env, drift.WORLDS[world])
    record = record_trajectories(env, arms, steps=8, seed=4, exclude_last=3)
    assert record.slate.shape == (60, 8, 4)
    shares = {arm.policy_id: arm.share for arm in arms}
    for arm in arms:
        rows = record.policy_id[:, 0] == arm.policy_id
        assert int(rows.sum()) == round(60 * shares[arm.policy_id])
        state = arm.policy.encoder(record)[rows]
        for t in range(8):
            banned = torch.zeros(int(rows.sum()), 3, dtype=torch.int64)
            for row, index in enumerate(rows.nonzero().squeeze(1).tolist()):
                picks = [
                    int(record.slate[index, j, record.choice[index, j]])
                    for j in range(t)
                    if record.choice[index, j] >= 0
                ]
                for column, item in enumerate(picks[-3:]):
                    banned[row, column] = item
            again = arm.policy.log_prob(
                state[:, t], record.slate[rows, t], SlateRequest(k=record.slate.shape[2], exclude=banned)
            )
            torch.testing.assert_close(again, record.logp[rows, t])


def test_draws_are_without_replacement_by_enumeration() -> None:
    # 5 items in 2 topics: every slate of 2 of them, with its probability
    topic = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    weight = torch.tensor([0.0, 0.0, 3.0, 1.0, 1.0, 2.0, 1.0])
    encoder = TopicHistory(topic, 2)
    policy = TopicDraws(encoder, topic, weight, num_topics=2, prior=0.5)
    state = torch.tensor([[1.0, 0.0]])  # t = (1.5, .5)/2
    single = torch.tensor([0.75 * 0.75, 0.75 * 0.25, 0.25 * 0.25, 0.25 * 0.5, 0.25 * 0.25])
    items = torch.arange(2, 7)
    torch.testing.assert_close(policy.log_pi(state, items.unsqueeze(0)).exp()[0], single)
    pairs = torch.tensor([[a, b] for a in range(2, 7) for b in range(2, 7) if a != b])
    chance = policy.log_prob(state.expand(len(pairs), -1), pairs, SlateRequest(k=2)).sum(dim=1).exp()
    by_hand = torch.tensor([single[a - 2] * single[b - 2] / (1 - single[a - 2]) for a, b in pairs.tolist()])
    torch.testing.assert_close(chance, by_hand)
    assert float(chance.sum()) == pytest.approx(1.0, abs=1e-6)
    drawn = policy.recommend(state.expand(40_000, -1), SlateRequest(k=2), generator=Generator().manual_seed(0))
    code = {(a, b): number for number, (a, b) in enumerate(pairs.tolist())}
    counts = torch.bincount(torch.tensor([code[(a, b)] for a, b in drawn.items.tolist()]), minlength=len(pairs))
    torch.testing.assert_close(counts / 40_000, chance, atol=0.012, rtol=0)  # over 4 σ
    torch.testing.assert_close(drawn.logp.sum(dim=1).exp(), chance[[code[(a, b)] for a, b in drawn.items.tolist()]])


def test_draws_keep_exclusions_and_fill_with_empty_places() -> None:
    topic = torch.tensor([0] * 6)
    policy = TopicDraws(StatelessEncoder(), topic, torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0]), num_topics=1)
    state = torch.zeros(500, 1)
    banned = torch.tensor([[3, 3, 0]]).expand(500, -1)
    drawn = policy.recommend(state, SlateRequest(k=4, exclude=banned), generator=Generator().manual_seed(0))
    assert not bool((drawn.items == 3).any())
    assert bool((drawn.items[:, 3] == PAD).all())
    torch.testing.assert_close(drawn.logp[0].exp(), torch.tensor([1 / 3, 1 / 2, 1.0, 1.0]))
    torch.testing.assert_close(policy.log_prob(state, drawn.items, SlateRequest(k=4, exclude=banned)), drawn.logp)
    # 2 again, the banned 3, and an empty place while item 5 is left
    impossible = torch.tensor([[2, 2, 4, 5], [2, 3, 4, 5], [2, 4, 0, 0]])
    scored = policy.log_prob(state[:3], impossible, SlateRequest(k=impossible.shape[1], exclude=banned[:3]))
    assert [scored[0, 1], scored[1, 1], scored[2, 2]] == [float("-inf")] * 3


def test_parts_follow_the_protocols() -> None:
    env = drift.Env(SMALL, num_users=5)
    assert isinstance(env, Env)
    for arm in drift.logging_arms(env, drift.WORLDS["strong"]):
        assert isinstance(arm.policy, Policy)
        assert isinstance(arm.policy.encoder, StateEncoder)
    assert isinstance(drift.Oracle(env), Policy)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([[2, 3, 4]] * 2, r"shape \(2, 3\); expected \(2, 4\)"),
        ([[2, 3, 4, 5], [2, 302, 4, 5]], "user 1, position 1: item 302"),
        ([[2, 3, 4, 5], [2, 1, 4, 5]], "user 1, position 1: item 1"),
        ([[2, 3, 4, 2], [2, 3, 4, 5]], "user 0, position 3: item 2: it is in the slate already"),
        ([[2, 3, 4, 5], [2, 0, 4, 5]], "user 1, position 2: item 4: it stands behind an empty place"),
        ([[2, -3, 4, 5], [2, 3, 4, 5]], "user 0, position 1: item -3"),
    ],
)
def test_slates_that_cannot_be_shown(items: list[list[int]], message: str) -> None:
    env = drift.Env(SMALL, num_users=2)
    env.reset(seed=0)
    with pytest.raises(InputError, match=message):
        env.step(slates(items))


def test_more_that_is_refused() -> None:
    env = drift.Env(SMALL, num_users=1)
    with pytest.raises(InputError, match=r"reset\(seed"):
        env.step(slates([[2, 3, 4, 5]]))
    env.reset(seed=0)
    with pytest.raises(InputError, match="position 2: nan is no log-probability"):
        env.step(Slates(items=torch.tensor([[2, 3, 4, 5]]), logp=torch.tensor([[0.0, -1.0, float("nan"), 0.0]])))
    with pytest.raises(InputError, match="5 from a catalog of 4 items"):
        check_slates(slates([[2, 3, 4, 5, 6]]), num_users=1, slate_size=5, num_rows=6)
    with pytest.raises(InputError, match="item 5: it is none of this user's candidates"):
        check_slates(
            slates([[2, 3, 4, 5]]), num_users=1, slate_size=4, num_rows=9, candidates=torch.tensor([[2, 3, 4, 6, 0]])
        )
    with pytest.raises(ValueError, match="slate_size is 16, the catalog has 10"):
        drift.Config(num_items=10)
    with pytest.raises(ValueError, match="num_topics is 0"):
        drift.Config(num_topics=0)
    with pytest.raises(ValueError, match=r"end is 1\.5"):
        drift.VisitConfig(end=1.5)
    policy = drift.logging_arms(env, drift.WORLDS["uniform"])[0].policy
    with pytest.raises(InputError, match="without a generator"):
        policy.recommend(torch.zeros(1, 1), SlateRequest(k=2))
    with pytest.raises(ValueError, match="slate size 301"):
        policy.recommend(torch.zeros(1, 1), SlateRequest(k=301), generator=Generator())
