from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slatewise.data.ratings import Ratings, ratings
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.log import LogPart
from slatewise.methods.random import Config as RandomConfig
from slatewise.methods.random import Policy as RandomPolicy
from slatewise.rollout.play import Arm
from slatewise.rollout.returns import returns
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim import toys
from slatewise.sim.rating_sessions import Config, Env, World, open_world, part_people
from slatewise.testing import check_env, toy_catalog, toy_dataset, written_log
from slatewise.types import Exploration, Slates


def show(env: Env, *items: int) -> Slates:
    slate = torch.tensor(items).view(env.num_users, -1)
    return Slates(items=slate, logp=torch.zeros(slate.shape))


def written(path: Path, *rows: dict[int, float]) -> str:
    """A prepared log of the ratings of some users."""
    users = [[{"items": [item], "rewards": [rating]} for item, rating in row.items()] for row in rows]
    toy_dataset(path / "log", written_log(users), catalog=toy_catalog(8))
    return str(path / "log")


def one_person(path: Path, **settings: object) -> Env:
    data = written(path, {2: 5.0, 3: 4.0, 4: 3.0, 5: 2.0, 6: 1.0})
    base = Config(data=data, part="all", steps=6)
    return Env(replace(base, **settings), num_users=1)  # type: ignore[arg-type]  # names and types of Config's fields


def test_a_session_by_hand(tmp_path: Path) -> None:
    """5, 4, 2, unrated, 1, 3 on a scale of 1 to 5: 1, ½, −½, 0, −1, 0; and α times the row before."""
    env = one_person(tmp_path, alpha=0.1)
    seen = env.reset(seed=0)
    assert seen.context.shape == (1, 19)
    assert not seen.context.any()
    rewards, statistics, ends = [], [], []
    for item in (2, 3, 5, 7, 6, 4):
        step, seen = env.step(show(env, item))
        rewards.append(float(step.reward))
        statistics.append((seen.context[0, :9] * 6).round().int().tolist())
        ends.append(bool(step.terminated))
    assert rewards == pytest.approx([1.0, 0.5 + 0.1, -0.5 + 0.2, 0.0 - 0.1, -1.0, 0.0 - 0.1])
    # negative, positive, other, steps; rows of negative, positive, other, not negative, not positive
    assert statistics[:5] == [
        [0, 1, 0, 1, 0, 1, 0, 1, 0],
        [0, 2, 0, 2, 0, 2, 0, 2, 0],
        [1, 2, 0, 3, 1, 0, 0, 0, 1],
        [1, 2, 1, 4, 0, 0, 1, 1, 2],
        [2, 2, 1, 5, 1, 0, 0, 0, 3],
    ]
    assert ends == [False] * 5 + [True]
    assert statistics[5] == [0] * 9  # somebody new
    assert int(seen.user) == 1


@pytest.mark.parametrize(("item", "place"), [(2, 9), (3, 7), (4, 5), (5, 2), (6, 0), (7, 5)])
def test_the_last_answer_stands_in_one_of_ten_bins(tmp_path: Path, item: int, place: int) -> None:
    env = one_person(tmp_path)
    env.reset(seed=0)
    _, seen = env.step(show(env, item))
    assert seen.context[0, 9:].tolist() == [float(bin_ == place) for bin_ in range(10)]


def test_an_item_shown_again_is_worth_nothing(tmp_path: Path) -> None:
    env = one_person(tmp_path, alpha=0.0)
    env.reset(seed=0)
    first, _ = env.step(show(env, 2))
    again, _ = env.step(show(env, 2))
    assert float(first.reward) == 1.0
    assert float(again.reward) == 0.0
    assert env.shown_items.tolist() == [[2, 2]]


def test_candidates_are_what_was_not_shown(tmp_path: Path) -> None:
    env = one_person(tmp_path, list_candidates=True)
    seen = env.reset(seed=0)
    assert seen.candidates is not None
    assert seen.candidates.tolist() == [list(range(2, 10))]
    _, seen = env.step(show(env, 3))
    assert seen.candidates is not None
    assert seen.candidates.tolist() == [[2, 0, *range(4, 10)]]
    with pytest.raises(InputError, match="item 3: it is none of this user's candidates"):
        env.step(show(env, 3))


def test_a_list_is_answered_item_by_item(tmp_path: Path) -> None:
    env = one_person(tmp_path, steps=2, slate_size=3, alpha=0.3)
    env.reset(seed=0)
    step, _ = env.step(show(env, 5, 2, 3))
    torch.testing.assert_close(step.reward, torch.tensor([[-0.5, 1.0, 0.5]]))
    assert step.choice.tolist() == [1]
    # a positive step before: .3 shared among the two that are shown
    step, _ = env.step(show(env, 6, 7, 0))
    torch.testing.assert_close(step.reward, torch.tensor([[-1 + 0.15, 0.15, 0.0]]))
    # every answer is a use, whatever it says; the choice is the one that earned most
    assert step.used.tolist() == [[True, True, False]]
    assert step.choice.tolist() == [1]


def test_popular_items_cost(tmp_path: Path) -> None:
    rows = [{2: 5.0, 3: 1.0}, {2: 4.0, 4: 2.0}, {2: 1.0}, {3: 3.0}, {2: 2.0}]
    env = Env(
        Config(data=written(tmp_path, *rows), test_share=0.0, popular_share=0.25, slate_size=4, steps=1), num_users=1
    )
    env.reset(seed=0)
    step, _ = env.step(show(env, 4, 3, 2, 0))
    assert step.cost.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_completed_ratings_keep_the_known_ones_and_tell_tastes_apart() -> None:
    env = Env(Config(part="all", unrated="completed", in_turn=True, completion_width=2), num_users=60)
    env.reset(seed=0)
    items = torch.arange(42).expand(60, -1)
    answers = env.answers(items)
    value, rated = env.world.ratings.of(env.person, items)
    torch.testing.assert_close(answers[rated], (value[rated] - 3) / 2)
    likes = (env.person.unsqueeze(1) % 2) == (items % 2)
    open_ = ~rated & (items >= 2)
    right = ((answers > 0) == likes)[open_].float().mean()
    assert float(right) > 0.95
    assert not answers[:, :2].any()


def test_relevant_items_and_how_many_there_are(tmp_path: Path) -> None:
    env = one_person(tmp_path)
    env.reset(seed=0)
    high, total = env.relevant(torch.tensor([[2, 3, 4, 9]]))
    assert high.tolist() == [[True, True, False, False]]
    assert total.tolist() == [2]


def test_parts_hold_everybody_once_and_nobody_without_ratings(tmp_path: Path) -> None:
    rows: list[dict[int, float]] = [{2 + user % 8: 1.0 + user % 5} for user in range(30)]
    users = [[{"items": [item], "rewards": [rating]} for item, rating in row.items()] for row in rows]
    users[7] = users[11] = []
    found = ratings(LogPart.whole(written_log(users)), num_rows=10)
    parts = part_people(found, Config(valid_share=0.1, test_share=0.2))
    assert [len(parts[name]) for name in ("train", "valid", "test", "all")] == [21, 2, 5, 28]
    together = torch.cat([parts[name] for name in ("train", "valid", "test")])
    assert sorted(together.tolist()) == [user for user in range(30) if user not in {7, 11}]


def test_in_turn_everybody_of_the_part_comes_once() -> None:
    env = Env(Config(part="test", in_turn=True, steps=2), num_users=5)
    env.reset(seed=0)
    met = env.person.tolist()
    for item in (2, 3, 4, 5):
        env.step(show(env, *[item] * 5))
    assert env.num_people == 12
    assert met == env.people[:5].tolist()
    assert env.person.tolist() == [*env.people[10:].tolist(), *env.people[:3].tolist()]


def test_random_recommendations_earn_what_the_table_says() -> None:
    """Without α the return of a random session is T times the mean answer, whoever is asked."""
    env = Env(Config(part="all", alpha=0.0, steps=20, list_candidates=True), num_users=600)
    items = torch.arange(2, 42).expand(600, -1)
    env.reset(seed=1)
    expected = 20 * float(env.answers(items).mean())
    policy = RandomPolicy(RandomConfig(), StatelessEncoder(), env.catalog)
    found = returns(env, policy, seed=1, exploration=Exploration(top_m=40))
    assert found.interval[0] < expected < found.interval[1]
    record = record_trajectories(env, [Arm(policy=policy, exploration=Exploration(top_m=40))], steps=20, seed=2)
    assert all(len(set(row)) == 20 for row in record.slate.squeeze(2).tolist())


def test_worlds_are_shared() -> None:
    world = open_world(Config())
    env = Env(Config(part="test"), num_users=2, world=world)
    assert env.world is world


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{2: 3.0}, {3: 3.0}], {"part": "all"}, "every rating is 3; expected ratings that differ"),
        ([{2: 3.0}, {3: 1.0}], {"part": "test"}, 'nobody with a rating is in the part "test"'),
        ([{2: 3.0}, {3: 1.0}], {"part": "all", "steps": 9}, "shows 9 items, the catalog has 8"),
    ],
)
def test_what_cannot_be_played(
    tmp_path: Path, rows: list[dict[int, float]], settings: dict[str, object], message: str
) -> None:
    config = replace(Config(data=written(tmp_path, *rows), steps=1), **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        Env(config, num_users=1)


def test_the_last_of_several_ratings_counts() -> None:
    users = [[{"items": [item], "rewards": [rating]} for item, rating in ((3, 1.0), (2, 4.0), (3, 5.0), (1, 2.0))]]
    found = ratings(LogPart.whole(written_log(users)), num_rows=5)
    assert found.item.tolist() == [2, 3]
    assert found.value.tolist() == [4.0, 5.0]
    value, rated = found.of(torch.tensor([0]), torch.tensor([[3, 4, 0, 2]]))
    assert value.tolist() == [[5.0, 0.0, 0.0, 4.0]]
    assert rated.tolist() == [[True, False, False, True]]


def test_ratings_of_some_users() -> None:
    users = [[{"items": [2], "rewards": [1.0]}], [], [{"items": [4], "rewards": [3.0]}]]
    found = ratings(LogPart.whole(written_log(users)), num_rows=5).users(torch.tensor([2, 1]))
    assert isinstance(found, Ratings)
    assert found.offsets.tolist() == [0, 1, 1]
    assert found.item.tolist() == [4]
    assert found.user.tolist() == [0]


def test_a_rating_that_is_no_number_is_named() -> None:
    users = [[{"items": [2], "rewards": [1.0]}], [{"items": [4], "rewards": [float("nan")]}]]
    with pytest.raises(InputError, match="item 4 has the rating nan by user 1"):
        ratings(LogPart.whole(written_log(users)), num_rows=5)


def test_no_rating_at_all() -> None:
    with pytest.raises(InputError, match="no rating of a known item"):
        ratings(LogPart.whole(written_log([[{"items": [1], "rewards": [1.0]}]])), num_rows=5)


@pytest.mark.parametrize("settings", [Config(), Config(slate_size=4, steps=5, unrated="completed"), None])
def test_the_contract(settings: Config | None) -> None:
    check_env("rating_sessions", config=settings or Config(list_candidates=True, slate_size=3, steps=7, in_turn=True))


def test_nothing_is_dense_over_people_and_items() -> None:
    """A million items and people of one rating each: only the ratings are held."""
    people, rows = 100_000, 1_000_002
    found = Ratings(
        offsets=torch.arange(people + 1),
        item=torch.arange(people) * 7 % (rows - 2) + 2,
        value=torch.arange(people).remainder(5) + 1.0,
        num_rows=rows,
    )
    person = torch.arange(people)
    world = World(
        ratings=found,
        catalog=toys.catalog(1_000_000),
        parts={"all": person, "train": person, "valid": person[:0], "test": person[:0]},
        completion=None,
        popular=torch.zeros(rows, dtype=torch.bool),
    )
    env = Env(Config(part="all", in_turn=True), num_users=people, world=world)
    env.reset(seed=0)
    step, _ = env.step(Slates(items=found.item.unsqueeze(1), logp=torch.zeros(people, 1)))
    expected: Tensor = (found.value - 3) / 2
    torch.testing.assert_close(step.reward.squeeze(1), expected)
