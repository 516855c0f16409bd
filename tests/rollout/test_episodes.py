"""What `simulate` measures, and what it records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slatewise import config as configs
from slatewise.data import import_path, load
from slatewise.data.batches import trajectories
from slatewise.data.reading.raw_log import Options
from slatewise.errors import InputError
from slatewise.log import LogPart
from slatewise.ops.choice import ChoiceModel
from slatewise.rollout.episodes import play_episodes
from slatewise.rollout.recording import Recorder, item_table, recording
from slatewise.rollout.returns import returns
from slatewise.sim import interest_evolution, toys
from slatewise.sim._opening import World, open_policy, open_world
from slatewise.types import Exploration, Observation, Slates, Step

SMALL = ("budget=20.0", "num_topics=5", "num_candidates=6")


def world(*assignments: str, name: str = "interest_evolution", users: int = 50) -> World:
    return open_world(name, assignments, num_users=users)


# the reference implementation's own figures; the same ones as in tests/sim/test_interest_evolution.py
@pytest.mark.parametrize(
    ("choice", "policy", "value", "length", "rate"),
    [
        ("proportional", "random", 160.6, 71.1, 0.572),
        ("proportional", "myopic", 167.9, 60.0, 0.709),
        ("proportional", "oracle", 264.9, 123.4, 0.548),
        ("mnl", "random", 159.3, None, None),
        ("mnl", "myopic", 167.1, None, None),
    ],
)
def test_figures_of_the_reference_implementation(
    choice: ChoiceModel, policy: str, value: float, length: float | None, rate: float | None
) -> None:
    opened = world(f"choice={choice}", users=2048)
    played = play_episodes(opened.env, open_policy(opened, policy).policy, episodes=2, seed=11)
    assert played.episodes == 4096
    earned = played.metric("return")
    assert abs(earned.value - value) < 0.3 + 4 * earned.stderr
    if length is not None and rate is not None:
        assert abs(played.metric("length").value - length) < 0.3 + 4 * played.metric("length").stderr
        assert abs(played.metric("click_rate").value - rate) < 0.002 + 4 * played.metric("click_rate").stderr


def test_figures_are_those_of_the_rollout() -> None:
    opened = world(*SMALL)
    who = open_policy(opened, "random")
    played = play_episodes(opened.env, who.policy, episodes=3, seed=4)
    earned = returns(opened.env, who.policy, seed=4, sessions=3)
    assert played.metric("return").value == pytest.approx(earned.value)
    assert played.metric("return").stderr == pytest.approx(earned.stderr)
    assert played.metric("length").value == pytest.approx(float(earned.session_length.double().mean()))
    assert played.metric("click_rate").value == pytest.approx(earned.pick_rate)
    assert played.steps == int(earned.session_length.sum())
    assert played.episodes == 150


def test_the_oracle_watches_better_documents() -> None:
    opened = world(users=100)
    quality = {
        name: play_episodes(opened.env, open_policy(opened, name).policy, episodes=1, seed=0).metric("quality").value
        for name in ("random", "oracle")
    }
    assert quality["random"] == pytest.approx(-0.59, abs=0.1)
    assert quality["oracle"] > 1


def test_finished_places_need_not_be_served() -> None:
    opened = world(*SMALL)
    policy = open_policy(opened, "myopic").policy
    played = play_episodes(opened.env, policy, episodes=1, seed=4)
    assert played.returns.shape == (50,)
    assert played.metric("return").value == pytest.approx(float(played.returns.mean()))
    uniform = open_policy(opened, "random").policy
    alone = play_episodes(opened.env, uniform, episodes=1, seed=4, serve_finished=False)
    assert alone.episodes == 50
    earned = alone.metric("return")
    other = play_episodes(opened.env, uniform, episodes=1, seed=4).metric("return")
    assert abs(earned.value - other.value) < 4 * (earned.stderr + other.stderr)
    assert play_episodes(opened.env, uniform, episodes=1, seed=4, serve_finished=False).metrics == alone.metrics


def test_an_env_without_qualities_has_no_such_figure() -> None:
    opened = world(name="toys", users=4)
    played = play_episodes(opened.env, open_policy(opened, "random").policy, episodes=2, seed=0)
    assert [metric.name for metric in played.metrics] == ["return", "length", "click_rate"]
    assert played.metric("length").value == 1.0
    with pytest.raises(KeyError, match="quality"):
        played.metric("quality")


def test_standard_errors_shrink_with_the_root_of_the_users() -> None:
    errors = []
    for users in (100, 1600):
        opened = world(*SMALL, users=users)
        errors.append(
            play_episodes(opened.env, open_policy(opened, "random").policy, episodes=1, seed=1).metric("return").stderr
        )
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.4)


@pytest.mark.parametrize("name", ["random", "oracle"])
@pytest.mark.parametrize("exploration", [None, Exploration(top_m=5, keep=1)])
def test_a_recorded_log_comes_back_bit_for_bit(tmp_path: Path, name: str, exploration: Exploration | None) -> None:
    opened = world(*SMALL, "budget_visible=true", users=20)
    who = open_policy(opened, name)
    kept: dict[int, tuple[list[object], ...]] = {}

    class Kept(Recorder):
        def add(self, seen: Observation, step: Step, counts: torch.Tensor, *, episode: torch.Tensor) -> None:
            super().add(seen, step, counts, episode=episode)
            for row in counts.nonzero().squeeze(1).tolist():
                kept[int(step.event_id[row])] = (
                    step.slate[row].tolist(),
                    step.logp[row].tolist(),
                    step.used[row].tolist(),
                    step.used_time[row].tolist(),
                    step.use_reward[row].tolist(),
                    step.reward[row].tolist(),
                    [bool(step.terminated[row])],
                    seen.context[row].tolist(),
                    [int(step.time[row])],
                )

    with recording(tmp_path / "log", opened.env.catalog, version="v") as recorder:
        watching = Kept(recorder._stream, opened.env.catalog, version="v")
        play_episodes(opened.env, who.policy, episodes=2, seed=3, exploration=exploration, recorder=watching)
    made = import_path(tmp_path / "log", tmp_path / "data", Options(simulated=True))
    log = made.interactions
    assert made.manifest.counts.known_propensities == log.num_rows
    assert made.policies.names.to_pylist() == ["", "v"]
    # the same numbers, although items appear in another order
    assert made.catalog.vocabulary.names.equals(opened.env.catalog.vocabulary.names)
    assert made.catalog.group.tolist() == opened.env.catalog.group.tolist()
    back = trajectories(log, LogPart.whole(log).windows(max_length=10_000))
    assert int(back.mask.sum()) == len(kept)
    for row, t in back.mask.nonzero().tolist():
        assert kept[int(back.event_id[row, t])] == (
            back.slate[row, t].tolist(),
            back.logp[row, t].tolist(),
            back.used[row, t].tolist(),
            back.used_time[row, t].tolist(),
            back.use_reward[row, t].tolist(),
            back.reward[row, t].tolist(),
            [bool(back.terminated[row, t])],
            back.context[row, t].tolist(),
            [int(back.time[row, t])],
        )
    assert int(back.terminated.sum()) == 40


def test_several_and_late_uses_of_a_slate_are_the_same_uses_again(tmp_path: Path) -> None:
    opened = world(*SMALL, users=2)
    seen = opened.env.reset(seed=0)
    assert seen.candidates is not None
    step, _ = opened.env.step(Slates(items=seen.candidates[:, :3].clone(), logp=torch.zeros(2, 3)))
    start = int(step.time[0])
    used = torch.tensor([[True, False, True], [False, False, False]])
    reward = torch.tensor([[2.0, 0.0, 1.5], [0.0, 0.0, 0.0]])
    moments = torch.tensor([[start + 90, 0, start + 40], [0, 0, 0]])
    step = replace(step, used=used, used_time=moments, use_reward=reward, reward=reward)
    with recording(tmp_path / "log", opened.env.catalog, version="v") as recorder:
        recorder.add(seen, step, torch.ones(2, dtype=torch.bool), episode=torch.zeros(2, dtype=torch.int64))
    assert (recorder.decisions, recorder.outcomes) == (2, 2)
    log = import_path(tmp_path / "log", tmp_path / "data").interactions
    assert log.used.tolist() == used.flatten().tolist()
    assert log.used_time.tolist() == moments.flatten().tolist()
    assert log.use_reward.tolist() == reward.flatten().tolist()
    assert log.reward.tolist() == reward.flatten().tolist()


def test_what_a_log_cannot_hold_is_refused(tmp_path: Path) -> None:
    opened = world(*SMALL, users=2)
    seen = opened.env.reset(seed=0)
    assert seen.candidates is not None
    step, _ = opened.env.step(Slates(items=seen.candidates[:, :3].clone(), logp=torch.zeros(2, 3)))
    everybody, first = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    unused = replace(step, used=torch.zeros(2, 3, dtype=torch.bool), reward=torch.ones(2, 3))
    for_nothing = replace(step, used=torch.ones(2, 3, dtype=torch.bool), reward=torch.zeros(2, 3))
    nothing = replace(step, slate=torch.zeros(2, 3, dtype=torch.int64))
    for bad, message in (
        (unused, "although it was not used"),
        (for_nothing, "was used and earned nothing"),
        (nothing, "shown nothing"),
    ):
        with (
            pytest.raises(InputError, match=message),
            recording(tmp_path / "log", opened.env.catalog, version="v") as recorder,
        ):
            recorder.add(seen, bad, everybody, episode=first)
        assert not (tmp_path / "log").exists()


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    with (
        pytest.raises(InputError, match="not empty"),
        recording(tmp_path, world(*SMALL).env.catalog, version="v"),
    ):
        raise AssertionError("nothing may be recorded")
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep me"


def test_items_are_described_once() -> None:
    topics = item_table(interest_evolution.Env(interest_evolution.Config(), num_users=1).catalog)
    assert topics.columns == ["item_id", "labels"]
    assert topics["labels"][21] == "topic-01"
    assert item_table(toys.catalog(3)).columns == ["item_id"]
    numbers = item_table(world("num_items=30", "num_topics=4", name="drift", users=1).env.catalog)
    assert numbers.columns == ["item_id", *(f"feature_{number:02d}" for number in range(16))]


def test_sessions_that_do_not_end_are_named() -> None:
    opened = world(*SMALL, users=3)
    with pytest.raises(InputError, match="3 of 3 places did not finish 2 episodes in 2 steps"):
        play_episodes(opened.env, open_policy(opened, "random").policy, episodes=2, seed=0, max_steps=2)
    with pytest.raises(InputError, match="0 episodes"):
        play_episodes(opened.env, open_policy(opened, "random").policy, episodes=0, seed=0)


def test_worlds_are_found_by_name(tmp_path: Path) -> None:
    assert {"interest_evolution", "drift", "toys"} <= set(configs.components("sim"))
    assert world(*SMALL, name="interest-evolution").config.num_topics == 5
    for name, message in (
        ("interest_evolutoin", r"Environments: .*interest_evolution"),
        ("slatewise.encoders.gru", "without a Env"),
        ("slatewise.nowhere", "cannot be imported"),
    ):
        with pytest.raises(InputError, match=message):
            world(name=name)
    for setting, message in (
        ("slate_size=11", "a slate cannot be larger"),
        ("topics=3", "did you mean"),
        ("num_topics", "KEY=VALUE"),
        ("num_topics=many", '--set num_topics=many: num_topics is "many"; expected a whole number'),
    ):
        with pytest.raises(InputError, match=message):
            world(setting)


def test_policies_are_found_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no policy and no run folder"):
        open_policy(world(*SMALL), "greedy")
    with pytest.raises(InputError, match=r"toys has no oracle policy.*It has: random"):
        open_policy(world(name="toys"), "oracle")
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        open_policy(world(*SMALL), str(tmp_path))
    small = world("num_items=60", "num_topics=5", "slate_size=3", "lifetime=7", name="drift", users=30)
    earned = {
        name: play_episodes(small.env, open_policy(small, name).policy, episodes=2, seed=0).metric("return").value
        for name in ("random", "myopic", "oracle")
    }
    assert earned["random"] < min(earned["myopic"], earned["oracle"])


def test_recorded_data_load_again(tmp_path: Path) -> None:
    opened = world("num_items=30", "num_topics=4", "slate_size=3", "lifetime=5", name="drift", users=6)
    with recording(tmp_path / "log", opened.env.catalog, version="v") as recorder:
        play_episodes(opened.env, open_policy(opened, "random").policy, episodes=1, seed=0, recorder=recorder)
    made = load(import_path(tmp_path / "log", tmp_path / "data").path)
    assert made.manifest.counts.events == 30
    assert made.catalog.features.shape == (32, 16)
    assert int(made.interactions.session_end.sum()) == 6
