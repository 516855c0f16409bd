from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import gymnasium
import slatewise.gymnasium
from gymnasium import spaces
from slatewise import config as configs
from slatewise.errors import InputError
from slatewise.types import Slates

IDS = sorted(slatewise.gymnasium.ENVIRONMENTS)
# small enough to be fast, long enough to say something
SHORT: dict[str, dict[str, Any]] = {
    "slatewise/InterestEvolution-v0": {"budget": 20.0},
    "slatewise/InterestExploration-v0": {"session_length": 5},
    "slatewise/LongTermSatisfaction-v0": {"session_length": 5, "slate_size": 2},
    "slatewise/TopicBoredom-v0": {"session_length": 5, "num_items": 50},
}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("settings", ["default", "short"])
def test_gymnasium_finds_nothing_to_say_against_it(name: str, settings: str) -> None:
    # warnings are errors here
    env = gymnasium.make(name, **({} if settings == "default" else SHORT[name]))
    check_env(env.unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_an_episode_with_random_actions(name: str) -> None:
    env = gymnasium.make(name, **SHORT[name])
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    users = []
    for _ in range(3):
        users.append(info["user"])
        assert not observation["response"].any()
        over = False
        while not over:
            action = env.action_space.sample()
            observation, reward, terminated, truncated, info = env.step(action)
            assert reward == pytest.approx(float(observation["response"].sum()), rel=1e-5)
            assert info["user"] == users[-1]
            assert (info["choice"] >= 0) == (float(reward) > 0)
            over = terminated or truncated
        assert truncated == (name == "slatewise/InterestExploration-v0")
        observation, info = env.reset()
    assert users == [0, 1, 2]


@pytest.mark.parametrize("name", IDS)
def test_it_is_the_simulator(name: str) -> None:
    """The same seed and the same slates give what the simulator itself gives."""
    settings = SHORT[name]
    module = configs.find("sim", slatewise.gymnasium.ENVIRONMENTS[name])
    inside = module.Env(module.Config(**settings), num_users=7)
    outside = gymnasium.make_vec(name, num_envs=7, **settings)
    observation, infos = outside.reset(seed=5)
    truth = inside.reset(seed=5)
    size = inside.slate_size
    for t in range(12):
        assert infos["user"].tolist() == truth.user.tolist()
        if "user" in observation:
            np.testing.assert_array_equal(observation["user"], truth.context.numpy())
        if truth.candidates is not None:
            features = inside.catalog.features[truth.candidates.numpy()]
            if "user" not in observation:
                features = np.concatenate([features, truth.context.numpy()[:, :, None]], axis=2)
            np.testing.assert_array_equal(observation["candidates"], features)
        action = np.stack([np.random.default_rng((t, u)).permutation(10)[:size] for u in range(7)])
        items = torch.from_numpy(action) + 2
        if truth.candidates is not None:
            items = truth.candidates.gather(1, torch.from_numpy(action))
        step, truth = inside.step(Slates(items=items, logp=torch.zeros(items.shape)))
        previous = observation
        observation, rewards, terminations, truncations, infos = outside.step(action)
        np.testing.assert_allclose(rewards, step.reward.sum(dim=1).numpy(), rtol=1e-6)
        assert terminations.tolist() == step.terminated.tolist()
        assert truncations.tolist() == step.truncated.tolist()
        assert infos["choice"].tolist() == step.choice.tolist()
        over = terminations | truncations
        assert ("final_obs" in infos) == bool(over.any())
        np.testing.assert_array_equal(observation["response"][~over], step.reward.numpy()[~over])
        assert not observation["response"][over].any()
        for place in np.flatnonzero(over):
            final = infos["final_obs"][place]
            assert final.keys() == observation.keys()
            np.testing.assert_array_equal(final["response"], step.reward.numpy()[place])
            for part in final.keys() - {"response"}:
                np.testing.assert_array_equal(final[part], previous[part][place])
            assert infos["final_info"]["user"][place] == step.user[place]
            assert infos["_final_obs"][place]


@pytest.mark.parametrize("name", IDS)
def test_many_at_once(name: str) -> None:
    envs = gymnasium.make_vec(name, num_envs=9, **SHORT[name])
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    envs.action_space.seed(1)

    def play() -> list[Any]:
        observation, infos = envs.reset(seed=3)
        record: list[Any] = [observation, infos["user"]]
        for _ in range(12):
            observation, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
            assert observation in envs.observation_space
            assert rewards.shape == terminations.shape == truncations.shape == (9,)
            record += [observation, rewards, infos["user"]]
        return record

    first = play()
    copies = [{k: v.copy() for k, v in x.items()} if isinstance(x, dict) else x.copy() for x in first]
    envs.action_space.seed(1)
    again = play()
    for array, copy, other in zip(first, copies, again, strict=True):
        np.testing.assert_equal(array, copy)  # later steps changed nothing
        np.testing.assert_equal(array, other)
    assert first[-1].max() > 8  # somebody new came
    envs.close()


def test_gymnasiums_own_vectorisers_take_it() -> None:
    envs = gymnasium.make_vec(
        "slatewise/InterestExploration-v0", num_envs=3, vectorization_mode="sync", session_length=2
    )
    envs.reset(seed=0)
    ends = [envs.step(envs.action_space.sample())[3].tolist() for _ in range(4)]
    assert ends == [[False] * 3, [True] * 3, [False] * 3, [False] * 3]
    envs.close()


def test_without_a_seed_worlds_differ() -> None:
    env = gymnasium.make("slatewise/InterestEvolution-v0")
    first, _ = env.reset(seed=1)
    other, _ = env.reset()
    assert not np.array_equal(first["user"], other["user"])
    again, _ = env.reset(seed=1)
    np.testing.assert_equal(again, first)
    third, _ = env.reset()
    np.testing.assert_equal(third, other)


def test_an_item_named_twice_is_shown_once() -> None:
    env = gymnasium.make(
        "slatewise/InterestExploration-v0", num_candidates=4, slate_size=4, null_logit=-80.0, session_length=1000
    )
    env.reset(seed=0)
    positions = []
    for _ in range(40):
        _, reward, _, _, info = env.step(np.array([2, 2, 0, 2]))
        assert reward == 1.0
        positions.append(info["choice"])
    assert set(positions) == {0, 2}  # the positions of the action, not those of the shortened slate
    observation, *_ = env.step(np.array([1, 1, 1, 3]))
    assert not observation["response"][1:3].any()


def test_repeated_items_can_be_refused() -> None:
    env = gymnasium.make("slatewise/InterestEvolution-v0", duplicates="refuse")
    env.reset(seed=0)
    with pytest.raises(InputError, match="action of user 0 names index 4 again at position 2"):
        env.step(np.array([4, 1, 4]))
    env.step(np.array([4, 1, 0]))


def test_what_is_refused() -> None:
    env = gymnasium.make("slatewise/InterestExploration-v0", session_length=1).unwrapped
    with pytest.raises(InputError, match=r"reset\(\)"):
        env.step(np.array([0, 1, 2]))
    env.reset(seed=0)
    for action, message in (
        ([0, 1], "shape"),
        ([0.0, 1.0, 2.0], "whole numbers"),
        ([0, 1, 10], "has 10 at position 2; expected an index from 0 to 9"),
        ([0, -1, 2], "has -1 at position 1"),
    ):
        with pytest.raises(InputError, match=message):
            env.step(np.array(action))
    env.step(np.array([0, 1, 2]))
    with pytest.raises(InputError, match="the session is over"):
        env.step(np.array([0, 1, 2]))
    with pytest.raises(InputError, match="no options; got mood"):
        env.reset(options={"mood": 1})
    with pytest.raises(InputError, match='unknown key "slate_sise"; did you mean "slate_size"'):
        gymnasium.make("slatewise/InterestEvolution-v0", slate_sise=2)
    with pytest.raises(InputError, match="slate_size is 11 with 10 candidates"):
        gymnasium.make("slatewise/InterestEvolution-v0", slate_size=11)
    with pytest.raises(InputError, match="duplicates is 'keep'"):
        gymnasium.make("slatewise/InterestEvolution-v0", duplicates="keep")
    with pytest.raises(InputError, match="num_envs is 0"):
        gymnasium.make_vec("slatewise/InterestEvolution-v0", num_envs=0)
    envs = gymnasium.make_vec("slatewise/InterestEvolution-v0", num_envs=2)
    with pytest.raises(InputError, match="Give one whole number"):
        envs.reset(seed=[1, 2])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"reset\(\)"):
        envs.step(np.zeros((2, 3), np.int64))


def test_spaces_by_hand() -> None:
    def shapes(name: str, **settings: Any) -> dict[str, tuple[int, ...]]:
        space = gymnasium.make(f"slatewise/{name}-v0", **settings).observation_space
        assert isinstance(space, spaces.Dict)
        return {part: tuple(box.shape or ()) for part, box in space.items()}

    assert shapes("InterestEvolution") == {"user": (20,), "candidates": (10, 20), "response": (3,)}
    assert shapes("InterestEvolution", budget_visible=True)["user"] == (21,)
    assert shapes("InterestExploration") == {"candidates": (10, 3), "response": (3,)}
    assert shapes("LongTermSatisfaction") == {"candidates": (10, 1), "response": (1,)}
    assert shapes("TopicBoredom") == {"user": (10,), "response": (10,)}
    assert gymnasium.make("slatewise/TopicBoredom-v0").action_space == spaces.MultiDiscrete([1000] * 10)
    assert gymnasium.make("slatewise/InterestEvolution-v0").action_space == spaces.MultiDiscrete([10] * 3)


def test_the_example_in_the_module() -> None:
    tried = doctest.testmod(slatewise.gymnasium)
    assert tried.attempted > 5
    assert tried.failed == 0


def test_the_example_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulators.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["rewards"].shape == (4096,)
    assert set(re.findall(r"slatewise/\w+-v0", page)) == set(IDS)


def test_registering_loads_nothing_heavy() -> None:
    code = (
        "import gymnasium, sys; gymnasium.spec('CartPole-v1'); import slatewise.gymnasium;"
        "gymnasium.spec('slatewise/TopicBoredom-v0'); sys.exit(bool({'torch', 'pyarrow', 'polars'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_module_can_stand_in_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    # as if nobody had imported it yet
    monkeypatch.delitem(sys.modules, "slatewise.gymnasium")
    for name in IDS:
        monkeypatch.delitem(gymnasium.registry, name)
    with pytest.raises(gymnasium.error.Error):
        gymnasium.make("slatewise/LongTermSatisfaction-v0")
    env = gymnasium.make("slatewise.gymnasium:slatewise/LongTermSatisfaction-v0")
    env.reset(seed=0)
    assert float(env.step([3])[1]) > 0
