"""Settings chosen by the kind of the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import slatewise
from slatewise.config import components, read_toml
from slatewise.config.run import RunConfig
from slatewise.data import load
from slatewise.data.log_kind import LogKind, kind_of
from slatewise.errors import InputError
from slatewise.methods import reinforce
from slatewise.testing import toy_dataset, written_log
from slatewise.training.automatic import choose, choose_for_kind
from slatewise.training.loop import train
from slatewise.training.run import lay_out

SHOWN: dict[str, object] = {"items": [2, 3], "used": [0, 1], "rewards": [1.0, 1.0]}


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """24 users who rate 12 of 20 items."""
    return toy_dataset(tmp_path / "ratings").path


def log(path: Path, users: list[list[dict[str, object]]], *, shown: bool = False) -> Path:
    return toy_dataset(path / "log", written_log(users), kind="impressions" if shown else "uses").path


def test_ratings_have_a_threshold_of_liking(ratings: Path) -> None:
    choice = choose(ratings)
    settings, liked = choice.config.method.settings, choice.kind.liked_at_least
    assert isinstance(settings, reinforce.Config)
    assert liked is not None
    assert settings.reward_at_least == choice.config.evaluate.liked_at_least == liked
    assert choice.config.train.select == "liked_ndcg@10"
    assert choice.config.evaluate.exclude_seen


def test_clicks_have_none(tmp_path: Path) -> None:
    choice = choose(log(tmp_path, [[{"items": [item]} for item in range(2, 8)]] * 3))
    settings = choice.config.method.settings
    assert isinstance(settings, reinforce.Config)
    assert (settings.reward_at_least, choice.config.evaluate.liked_at_least) == (None, None)
    assert choice.config.train.select == "ndcg@10"


def test_the_default_says_that_recall_is_agreement_with_the_log(ratings: Path) -> None:
    text = choose(ratings).text()
    assert "next-item recall is agreement with the log, not proof of a better policy" in text
    assert "method.reward_at_least" in text


def test_repeats_are_recommended_again_in_evaluation_and_service(tmp_path: Path) -> None:
    choice = choose(log(tmp_path, [[{"items": [item]} for item in (2, 3, 2, 4, 2, 3)]] * 3))
    assert not choice.config.evaluate.exclude_seen
    assert choice.config.serve.allow_repeats
    assert "items used before are recommended again" in choice.reasons["evaluate.exclude_seen"]


def test_logged_propensities_of_single_items_are_used(tmp_path: Path) -> None:
    shown = [{"items": [item], "logp": [-1.0]} for item in range(2, 8)]
    choice = choose(log(tmp_path, [shown] * 3, shown=True))
    settings = choice.config.method.settings
    assert isinstance(settings, reinforce.Config)
    assert (settings.correction, settings.behaviour.propensities) == ("standard", "logged")
    assert settings.weight_cap > 1
    assert "method.behaviour.propensities" in choice.reasons


def test_a_small_catalog_shortens_the_lists_and_what_selects(tmp_path: Path) -> None:
    twelve_items = toy_dataset(tmp_path / "few", written_log([[{"items": [item]} for item in (2, 3, 4, 5)]] * 4))
    choice = choose(twelve_items.path)
    length = min(10, choice.kind.items)
    assert choice.config.evaluate.k == (length,)
    assert choice.config.train.select == f"ndcg@{length}"


def test_an_assignment_stands_above_the_choice(ratings: Path) -> None:
    choice = choose(ratings, assignments=["method.weight_cap=3.0", "evaluate.k=[5]"])
    settings = choice.config.method.settings
    assert isinstance(settings, reinforce.Config)
    assert settings.weight_cap == 3.0
    assert choice.reasons["method.weight_cap"] == "set with --set"
    assert choice.config.train.select == "liked_ndcg@5"


def test_another_encoder_keeps_what_it_knows_of_the_settings(ratings: Path) -> None:
    assert choose(ratings, assignments=["encoder.name=liked"]).config.encoder.name == "liked"
    assert choose(ratings, assignments=["encoder.name=stateless"]).config.encoder.name == "stateless"


def test_no_data_set_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no prepared data set"):
        choose(tmp_path / "nowhere")


def test_the_reasons_are_comments_of_the_configuration(ratings: Path, tmp_path: Path) -> None:
    small = ["encoder.width=4", "train.epochs=2", "method.imitation.epochs=1"]
    choice = choose(ratings, assignments=small)
    result = train(choice.config, tmp_path / "run", reasons=choice.reasons)
    text = (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    liked = choice.reasons["method.reward_at_least"]
    assert f"# {liked}\nreward_at_least = {choice.kind.liked_at_least}\n" in text
    assert RunConfig.from_toml(tmp_path / "run" / "config.toml").train == choice.config.train
    # a comment is no setting: the run resumes without them
    assert train(choice.config, tmp_path / "run", resume=True).steps == result.steps


Users = list[list[dict[str, object]]]
USES: Users = [[{"items": [2 + (user + step) % 12]} for step in range(8)] for user in range(24)]
PLAYS: Users = [[{"items": [item]} for item in (2, 3, 2, 4, 2, 3, 5, 6, 7, 2)]] * 20
SLATES: Users = [[SHOWN, {"items": [4, 5], "used": [], "rewards": [0.0, 0.0]}, SHOWN, SHOWN] * 3] * 20
SINGLE: Users = [[{"items": [2 + step], "used": [0] * (step % 2), "rewards": [step % 2]} for step in range(8)]] * 30
LOGS = {"uses": (USES, False), "plays": (PLAYS, False), "slates": (SLATES, True), "single items": (SINGLE, True)}
REFUSES = {
    ("slateq", "ratings"): "learns from slates of several items.* --method reinforce",
    ("slateq", "uses"): "learns from slates of several items",
    ("slateq", "plays"): "learns from slates of several items",
    ("slateq", "single items"): "learns from slates of several items",
    ("fcpo", "slates"): "learns from lists that it drew itself.* --method slateq or reinforce",
    ("wolpertinger", "uses"): "a critic has nothing to compare.* --method reinforce or cloning",
    ("wolpertinger", "plays"): "a critic has nothing to compare",
    ("slatewise.sim.log_fitted.learner", "single items"): "cannot support a simulator",
}
METHODS = (*components("methods"), "slatewise.sim.log_fitted.learner")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    toy_dataset(folder / "ratings")
    for name, (users, shown) in LOGS.items():
        toy_dataset(folder / name, written_log(users), kind="impressions" if shown else "uses")
    return folder


@pytest.mark.parametrize("name", ["ratings", *LOGS])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_settings_for_every_kind_or_says_which_to_take(method: str, name: str, data: Path) -> None:
    small = ["encoder.width=4"] if method not in ("item_knn", "popularity", "random") else []
    if (method, name) in REFUSES:
        with pytest.raises(InputError, match=REFUSES[method, name]):
            lay_out(choose(data / name, method).config, Path("run"))
        return
    choice = choose(data / name, method, small)
    run = lay_out(choice.config, Path("run"))
    assert run.config.method.name == method
    assert "data.split" in choice.reasons
    assert all(choice.reasons.values())


def test_every_file_of_settings_belongs_to_a_method_and_a_trait(data: Path) -> None:
    traits = {trait for name in ["ratings", *LOGS] for trait in kind_of(load(data / name)).traits}
    traits |= {"amounts", "no_clock", "propensities", "medium", "large", "sparse", "not_sparse"}
    for file in (Path(slatewise.__file__).parent / "configs" / "by_log").glob("*.toml"):
        assert file.stem in {"every", *METHODS}
        assert set(read_toml(file)) <= traits, file


CLICKS = LogKind(
    feedback="uses",
    liked_at_least=None,
    lowest=1.0,
    highest=1.0,
    repeats=0.0,
    clock=True,
    propensities="none",
    known_propensities=0.0,
    slate_size=1,
    several_uses=0.0,
    users=200,
    items=100,
    uses=1_600,
)
KINDS = {
    "large": replace(CLICKS, users=100_000, items=50_000, uses=10_000_000),
    "no clock": replace(CLICKS, clock=False),
    "sparse": replace(CLICKS, items=1_000),
    "amounts": replace(CLICKS, feedback="amounts", liked_at_least=30.0, lowest=0.5, highest=4_000.0),
    "logged slates": replace(CLICKS, feedback="slates", slate_size=12, propensities="slates", known_propensities=1.0),
    "large no clock": replace(CLICKS, clock=False, users=100_000, items=500_000, uses=10_000_000),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_combination_of_traits_is_a_configuration(method: str, name: str) -> None:
    kind = KINDS[name]
    refuses = {"slateq": kind.feedback != "slates", "fcpo": kind.feedback == "slates"}
    if refuses.get(method, method == "wolpertinger" and kind.feedback == "uses"):
        with pytest.raises(InputError, match="cannot learn from this log"):
            choose_for_kind(kind, Path("data"), method)
        return
    config = choose_for_kind(kind, Path("data"), method).config
    assert 4 <= config.train.batch_size <= 128
    assert RunConfig.from_tables(config.to_tables()) == config


def test_a_log_of_sixteen_hundred_events_and_one_of_ten_million() -> None:
    small, large = (choose_for_kind(kind, Path("data")).config.train for kind in (CLICKS, KINDS["large"]))
    assert (small.batch_size, large.batch_size) == (6, 128)  # 200 // 32, and at most 128
    assert (small.epochs, large.epochs) == (60, 5)


def test_a_log_without_a_clock_is_split_at_random_and_read_as_sets() -> None:
    config = choose_for_kind(KINDS["no clock"], Path("data")).config
    assert config.data is not None
    assert (config.data.split, config.encoder.name) == ("random", "liked")


def test_few_users_with_many_uses_hold_out_more_than_one_event_each() -> None:
    few, many = (choose_for_kind(replace(CLICKS, users=users, uses=20 * users), Path("data")) for users in (100, 600))
    assert few.config.data is not None
    assert many.config.data is not None
    assert (few.config.data.split, many.config.data.split) == ("first_share", "leave_one_out")
