"""Users fitted to a log: what they learn, how they live, and what a log must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from slatewise.config.run import RunConfig
from slatewise.data import Dataset, import_path
from slatewise.data.preparation import prepare
from slatewise.data.simulated import prepare_simulated
from slatewise.encoders import observed
from slatewise.errors import InputError
from slatewise.log import LogPart
from slatewise.rollout.episodes import play_episodes
from slatewise.rollout.recording import recording
from slatewise.sim._opening import open_policy, open_world
from slatewise.sim.log_fitted import Config, Env, Fitted, examine, load
from slatewise.sim.log_fitted.env import METHOD, _is_repeat
from slatewise.sim.log_fitted.held_out import judge_fit
from slatewise.sim.log_fitted.learner import Config as ModelConfig
from slatewise.sim.log_fitted.learner import Learner, levels
from slatewise.testing import check_env, check_method, toy_catalog, written_log
from slatewise.training.loop import train
from slatewise.types import SlateRequest

WORLD = ("budget=20.0", "num_topics=4", "num_candidates=6", "lowest_quality=-2.0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log that random slates wrote in interest evolution."""
    folder = tmp_path_factory.mktemp("fitted")
    opened = open_world("interest_evolution", WORLD, num_users=400)
    with recording(folder / "log", opened.env.catalog, version="random") as recorder:
        play_episodes(opened.env, open_policy(opened, "random").policy, episodes=1, seed=1, recorder=recorder)
    return import_path(folder / "log", folder / "data")


@pytest.fixture(scope="module")
def run(data: Dataset) -> Path:
    """A user model that the command's loop fitted to it."""
    folder = data.path.parent / "run"
    train(RunConfig.from_tables(tables(data)), folder)
    return folder


def tables(data: Dataset, **method: Any) -> dict[str, Any]:
    return {
        "data": {"path": str(data.path), "split": "by_user", "fold_in": 0.0},
        "encoder": {"name": "observed", "history": False},
        "method": {"name": METHOD, "reads": "match", "hidden": [16], "lr": 0.01, **method},
        "train": {"epochs": 25, "select": "log_likelihood"},
        "evaluate": {"k": [1]},
    }


def test_an_env_of_users_made_up_keeps_the_contract() -> None:
    check_env("log_fitted", config=Config(num_candidates=10))


def test_a_fitted_env_keeps_the_contract(run: Path) -> None:
    check_env("log_fitted", config=Config(run=str(run), num_candidates=6))


def test_a_user_model_is_a_method_like_any_other() -> None:
    known = {"slates": True, "levels": [0.0, 1.0], "session_steps": 5.0, "ends": True}
    check_method(
        METHOD, settings={"hidden": [8], "low": [-3.0] * 2, "high": [3.0] * 2, "slate_size": 8, **known}, encoder="gru"
    )


def test_slates_of_several_uses_are_counted_or_refused() -> None:
    config = ModelConfig(slate_size=2, slates=True, levels=(1.0,), session_steps=2.0, ends=False, low=(), high=())
    encoder = observed.Encoder(observed.Config(context_width=0), toy_catalog())
    fits = Learner(config, encoder, toy_catalog(), generator=torch.Generator().manual_seed(0))
    part = LogPart.whole(written_log([[{"items": [2, 3], "used": [0, 1]}, {"items": [2, 3]}]]))
    fits.check_log(part)
    assert fits.notes() == (
        "1 slate of the training part has several used items: the choice is the used item with the largest reward "
        '(method.several_uses = "largest")',
    )
    refuses = Learner(
        replace(config, several_uses="refuse"), encoder, toy_catalog(), generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match=r'several used items, and method\.several_uses = "refuse"'):
        refuses.check_log(part)


def test_what_was_fitted_is_what_there_is(data: Dataset, run: Path) -> None:
    fitted = load(run)
    user, config = fitted.policy.user, open_world("interest_evolution", WORLD, num_users=1).config
    assert user.shape.slates
    assert user.shape.ends
    # wear of a pick, in units of what a session bears: minutes that are lost, over all minutes
    quality = torch.from_numpy(config.topic_quality)
    true = (4 - 4 * config.budget_gain * quality) / config.budget
    found = user.wear_of(torch.arange(2, 6)).detach() / user.threshold.detach()
    torch.testing.assert_close(found, true, rtol=0.1, atol=0.02)
    assert (
        float(found[0]) > float(found[1:3].max()) > float(found[1:3].min()) > float(found[3])
    )  # qualities −2, 0, 0, 3
    assert float(user.wear_of(torch.tensor(0)).detach()) == pytest.approx(config.null_cost / config.budget, abs=0.02)
    # what is liked is picked: log v rises with the interest, at a slope like that of log(x + 1)
    context = torch.zeros(3, 4)
    context[:, 1] = torch.tensor([-0.5, 0.0, 0.5])
    with torch.no_grad():
        score = user.choice.log_weight(context, torch.full((3, 1), 3)).squeeze(1)
    assert float(score[1] - score[0]) == pytest.approx(0.69, abs=0.4)
    assert float(score[2] - score[1]) == pytest.approx(0.41, abs=0.3)


def test_sessions_are_like_those_of_the_log(data: Dataset, run: Path) -> None:
    report = judge_fit(run, data.path).report
    marginal = {entry.name: entry for entry in report.marginals}
    for name, within in (("length", 0.15), ("pick rate", 0.1), ("reward a slate", 0.1)):
        assert marginal[name].simulated == pytest.approx(marginal[name].real, rel=within)
    choice = {entry.model: entry for entry in report.likelihoods if entry.what == "choice"}
    for baseline in ("uniform", "position", "popularity"):
        assert choice[baseline].gain > 3 * choice[baseline].gain_stderr
        assert choice["model"].value - choice[baseline].value == pytest.approx(choice[baseline].gain, abs=1e-6)
    assert report.calibration.error < 0.05
    assert report.support != "cannot"
    assert report.users == 80


def test_another_log_is_judged_whole(data: Dataset, run: Path, tmp_path: Path) -> None:
    opened = open_world("interest_evolution", WORLD, num_users=30)
    with recording(tmp_path / "log", opened.env.catalog, version="random") as recorder:
        play_episodes(opened.env, open_policy(opened, "random").policy, episodes=1, seed=9, recorder=recorder)
    import_path(tmp_path / "log", tmp_path / "data")
    judged = judge_fit(run, tmp_path / "data")
    assert (judged.part, judged.report.users) == ("all", 30)


def test_policies_play_in_it_by_name(run: Path) -> None:
    opened = open_world(str(run), ["num_candidates=6"], num_users=300)
    earned = {
        name: play_episodes(opened.env, open_policy(opened, name).policy, episodes=1, seed=2).metric("click_rate")
        for name in ("random", "myopic")
    }
    assert earned["myopic"].value > earned["random"].value + 4 * earned["random"].stderr
    with pytest.raises(InputError, match="log_fitted has no oracle policy"):
        open_policy(opened, "oracle")


def test_candidates_come_as_often_as_they_were_shown() -> None:
    env = Env(Config(slate_size=1, num_candidates=2), num_users=4000)
    env.policy.shown.zero_()
    env.policy.shown[2:6] = torch.tensor([4.0, 2.0, 1.0, 1.0])
    again = Env(env.config, num_users=4000, fitted=Fitted(policy=env.policy, catalog=env.catalog))
    seen = again.reset(seed=0)
    assert seen.candidates is not None
    count = torch.bincount(seen.candidates.flatten(), minlength=6)[2:6] / 4000
    first = torch.tensor([0.5, 0.25, 0.125, 0.125])
    second = torch.tensor(
        [sum(float(first[j] * first[i] / (1 - first[j])) for j in range(4) if j != i) for i in range(4)]
    )
    torch.testing.assert_close(count, first + second, atol=0.04, rtol=0.0)
    assert not bool(_is_repeat(seen.candidates).any())


def test_candidates_of_a_large_catalog_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slatewise.sim.log_fitted.env.DENSE_ROWS", 1)
    seen = Env(Config(num_candidates=30), num_users=50).reset(seed=0)
    assert seen.candidates is not None
    assert all(len(set(row)) == 30 for row in seen.candidates.tolist())
    assert int(seen.candidates.min()) >= 2


def test_sessions_without_an_end_are_cut() -> None:
    env = Env(Config(max_steps=3), num_users=2)
    env.policy.user.shape = replace(env.policy.user.shape, ends=False)
    items = torch.tensor([[2, 3, 4], [5, 6, 7]])
    env.reset(seed=0)
    for step in range(1, 8):
        happened, seen = env.step(slates(items))
        assert happened.truncated.tolist() == [step % 3 == 0] * 2
        assert not bool(happened.terminated.any())
        assert seen.user.tolist() == [2 * (step // 3), 2 * (step // 3) + 1]


def slates(items: torch.Tensor) -> Any:
    from slatewise.types import Slates

    return Slates(items=items, logp=torch.zeros(items.shape))


def test_myopic_shows_what_is_worth_most_now() -> None:
    env = Env(Config(num_candidates=8), num_users=5)
    seen = env.reset(seed=1)
    assert seen.candidates is not None
    shown = env.myopic().recommend(torch.zeros(5, 1), SlateRequest(k=1, candidates=seen.candidates)).items
    user, state = env.policy.user, env._state
    with torch.no_grad():
        worth = user.choice.log_weight(state, seen.candidates).exp() * user.expected_reward(state, seen.candidates)
    assert shown.squeeze(1).tolist() == seen.candidates.gather(1, worth.argmax(dim=1, keepdim=True)).squeeze(1).tolist()


def test_levels_are_those_of_the_log_or_its_quantiles() -> None:
    assert levels(np.array([4.0, 1.0, 4.0], np.float32), 5) == (1.0, 4.0)
    assert levels(np.arange(100, dtype=np.float32), 4) == (12.0, 37.0, 62.0, 87.0)


def test_settings_are_checked() -> None:
    for settings, message in (
        ({"max_steps": 0}, "max_steps is 0"),
        ({"null_share": 1.0}, "null_share is 1.0"),
        ({"num_candidates": 0}, "num_candidates is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**settings)
    with pytest.raises(ValueError, match="slate_size is 5 with 4 candidates"):
        Env(Config(slate_size=5, num_candidates=4), num_users=1)
    with pytest.raises(ValueError, match="slate_size is not known"):
        ModelConfig().shape(0)
    with pytest.raises(ValueError, match="modes is 0"):
        ModelConfig(modes=0)


def frame(picks: int, *, items: int = 3, reward: float = 1.0, sessions: bool = True) -> pl.DataFrame:
    """Slates of two, of which the first is picked in the first `picks` events of 150."""
    events = np.repeat(np.arange(150), 2)
    place = np.tile([0, 1], 150)
    columns: dict[str, Any] = {
        "event_id": events,
        "user_id": [f"u{event % 10}" for event in events],
        "timestamp": events * 1_000_000,
        "position": place,
        "item_id": [f"i{(event % items) if at == 0 else items}" for event, at in zip(events, place, strict=True)],
        "reward": ((place == 0) & (events < picks)).astype(np.float32) * reward,
    }
    if sessions:
        columns["session_id"] = [f"s{event % 10}" for event in events]
    return pl.DataFrame(columns)


@pytest.mark.parametrize(
    ("log", "support", "words"),
    [
        (frame(0), "cannot", "nothing was ever picked"),
        (frame(30), "cannot", "30 picks are too few"),
        (frame(140, items=1), "cannot", "only one item was ever picked"),
        (frame(140, reward=2.0), "weak", "every pick has the reward 2"),
        (frame(140, sessions=False), "weak", "names no sessions"),
        (frame(150), "weak", "something is picked from every slate"),
    ],
)
def test_a_log_says_what_it_cannot_teach(tmp_path: Path, log: pl.DataFrame, support: str, words: str) -> None:
    made = prepare(log, out=tmp_path / "data", name="log")
    verdict = examine(LogPart.whole(made.interactions))
    assert verdict.support == support
    assert words in verdict.text()
    if support == "cannot":
        with pytest.raises(InputError, match="The log cannot support a simulator"):
            train(RunConfig.from_tables(tables(made)), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_log_of_uses_is_learned_against_items_drawn_at_random(tmp_path: Path) -> None:
    made = prepare_simulated(tmp_path / "data", users=60, items=40, events_per_user=12, topics=4)
    settings = tables(made, reads="whole", negatives=20) | {"encoder": {"name": "gru", "width": 8, "item_width": 8}}
    train(RunConfig.from_tables(settings | {"train": {"epochs": 6, "select": "log_likelihood"}}), tmp_path / "run")
    report = judge_fit(tmp_path / "run", made.path).report
    assert "does not show what was passed over" in " ".join(report.reasons)
    assert "names no sessions" in " ".join(report.reasons)
    rewards = {entry.model: entry.value for entry in report.likelihoods if entry.what == "reward"}
    assert rewards["model"] > np.log(1 / 5)
    opened = open_world(str(tmp_path / "run"), ["slate_size=4", "max_steps=10"], num_users=200)
    played = play_episodes(opened.env, open_policy(opened, "random").policy, episodes=1, seed=0)
    assert played.metric("length").value == 10
    # null_share is about random slates
    assert played.metric("click_rate").value == pytest.approx(0.5, abs=0.15)
