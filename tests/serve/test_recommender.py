"""Slates: drawn as the policy says, recorded as they were drawn, without what the user had."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.serve.world import NUM_ITEMS, Open, catalog, history, imported, in_numbers_of, save_artifact, state_of

from slatewise.data import prepare
from slatewise.log import FIRST_ITEM
from slatewise.serve import Feedback, RecommendRequest
from slatewise.serve.clock import EPOCH, Clock, event_name
from slatewise.serve.http.schema import Explore, RecommendAnswer
from slatewise.serve.refused import RefusedError
from slatewise.types import Exploration, SlateRequest


def names(answer: RecommendAnswer) -> list[str]:
    return [item.item_id for item in answer.items]


def numbers(*items: str) -> torch.Tensor:
    return torch.tensor([[int(item[1:]) + FIRST_ITEM for item in items]], dtype=torch.int64)


REQUESTS = [
    (RecommendRequest(user_id="ann", k=6), Exploration(top_m=100, keep=3)),
    (
        RecommendRequest(user_id="ann", k=5, explore=Explore(top_m=9, keep=1, temperature=0.5)),
        Exploration(top_m=9, keep=1, temperature=0.5),
    ),
    (RecommendRequest(user_id="ann", k=4, explore=Explore(keep=0)), Exploration(top_m=100, keep=0)),
    (RecommendRequest(user_id="ann", k=4, explore=Explore(keep=4)), Exploration(top_m=100, keep=4)),
    (
        RecommendRequest(user_id="ann", k=5, candidates=["i1", "i5", "i7", "i30", "i31", "i32", "i5"], exclude=["i7"]),
        Exploration(top_m=100, keep=2),
    ),
    (RecommendRequest(user_id="ann", k=NUM_ITEMS - 3, exclude=["i0", "no such"]), Exploration(top_m=100, keep=18)),
]


@pytest.mark.parametrize(("request_", "exploration"), REQUESTS)
def test_logp_is_the_log_prob_of_the_policy(
    run: Path, serve: Open, tmp_path: Path, request_: RecommendRequest, exploration: Exploration
) -> None:
    recommender = serve(run)
    recommender.feedback([Feedback(user_id="ann", item_id=f"i{item}", value=item) for item in (2, 4)])
    answer = recommender.recommend(request_)
    dataset = imported(recommender.events_folder, tmp_path / "data")
    candidates = None if request_.candidates is None else numbers(*request_.candidates)
    excluded = numbers("i2", "i4", *(item for item in request_.exclude if item != "no such"))
    with torch.inference_mode():
        slate = numbers(*names(answer))
        request = SlateRequest(k=slate.shape[1], candidates=candidates, exclude=excluded, exploration=exploration)
        state = state_of(recommender, dataset, "ann", 2)
        expected = recommender.artifact.policy.log_prob(state, slate, request)[0]
    logp = torch.tensor([item.logp for item in answer.items])
    torch.testing.assert_close(logp, expected)
    assert answer.logp == pytest.approx(math.fsum(logp.tolist()))
    assert [item.propensity for item in answer.items] == pytest.approx(logp.exp().tolist())
    assert [item.explored for item in answer.items] == [factor < 0 for factor in logp.tolist()]
    assert [item.position for item in answer.items] == list(range(len(answer.items)))
    # a slot the policy fixed is not explored; with two items to draw from, the others are
    assert [item.explored for item in answer.items[: exploration.keep]] == [False] * min(
        exploration.keep, len(answer.items)
    )
    assert not set(names(answer)) & {"i2", "i4", *request_.exclude}


def test_a_greedy_service_shows_the_best(run: Path, serve: Open) -> None:
    recommender = serve(run, greedy=True)
    answer = recommender.recommend(RecommendRequest(user_id="ann", k=NUM_ITEMS))
    policy = recommender.artifact.policy
    with torch.inference_mode():
        every = torch.arange(FIRST_ITEM, NUM_ITEMS + FIRST_ITEM).unsqueeze(0)
        best = policy.log_pi(torch.zeros(1, 8), every)[0].argsort(descending=True)
    assert names(answer) == [f"i{item}" for item in best.tolist()]
    assert answer.logp == 0
    assert not any(item.explored for item in answer.items)


def test_titles_are_the_catalogs(run: Path, serve: Open) -> None:
    answer = serve(run).recommend(RecommendRequest(user_id="ann", k=NUM_ITEMS))
    titles = {item.item_id: item.title for item in answer.items}
    assert titles["i3"] == "Title of i3"
    assert titles[f"i{NUM_ITEMS - 1}"] == f"i{NUM_ITEMS - 1}"  # an item without text goes by its name


def test_seen_items_are_not_shown_again_unless_allowed(run: Path, serve: Open, tmp_path: Path) -> None:
    for allow, expected in ((False, NUM_ITEMS - 2), (True, NUM_ITEMS)):
        recommender = serve(
            run, allow_repeats=allow, store=tmp_path / f"store{allow}", events=tmp_path / f"events{allow}"
        )
        first = recommender.recommend(RecommendRequest(user_id="ann", k=3))
        recommender.feedback(
            [Feedback(event_id=first.event_id, position=2), Feedback(user_id="ann", item_id=first.items[1].item_id)]
        )
        second = recommender.recommend(RecommendRequest(user_id="ann", k=NUM_ITEMS))
        other = recommender.recommend(RecommendRequest(user_id="ben", k=NUM_ITEMS))
        assert len(second.items) == expected
        assert len(other.items) == NUM_ITEMS


def test_a_user_who_had_everything_is_told_so(run: Path, serve: Open) -> None:
    recommender = serve(run)
    recommender.feedback([Feedback(user_id="ann", item_id="i1"), Feedback(user_id="ann", item_id="i2")])
    with pytest.raises(RefusedError, match='no item is left to show to "ann"'):
        recommender.recommend(RecommendRequest(user_id="ann", candidates=["i1", "i2"]))
    assert recommender.decisions == 0
    assert len(list(recommender.events_folder.glob("*.jsonl"))) == 1
    assert '"decision"' not in (recommender.events_folder / "events-00000001.jsonl").read_text()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            RecommendRequest(user_id="a", k=NUM_ITEMS + 1),
            "k is 41, the catalog has 40 items; expected a slate of",
        ),
        (RecommendRequest(user_id="a", k=5, explore=Explore(top_m=4)), "top_m is 4, the slate has 5 positions"),
        (
            RecommendRequest(user_id="a", candidates=["i1", "x", "y"]),
            'no item "x" and 1 more; expected item ids of',
        ),
        (RecommendRequest(user_id="a", context=[1.0]), "context has 1 numbers; expected 0"),
    ],
)
def test_what_cannot_be_served_is_refused(run: Path, serve: Open, request_: RecommendRequest, message: str) -> None:
    recommender = serve(run)
    before = (recommender.events_folder / "events-00000001.jsonl").read_bytes()
    with pytest.raises(RefusedError, match=message):
        recommender.recommend(request_)
    assert (recommender.events_folder / "events-00000001.jsonl").read_bytes() == before


def test_a_user_of_the_training_log_starts_with_that_history(tmp_path: Path, serve: Open) -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "ann", "ben"],
            # an item that the policy has never heard of is its unknown item
            "item_id": ["i5", "new", "i7", "i9"],
            "timestamp": [1_000_000, 2_000_000, 3_000_000, 1_500_000],
            "reward": [4.0, 2.0, 0.0, 1.0],
        }
    )
    dataset = prepare(frame, out=tmp_path / "data", name="toy")
    save_artifact(tmp_path / "run" / "artifact", tables={"data": {"path": str(tmp_path / "data")}})
    recommender = serve(tmp_path / "run")
    assert recommender.example_user == "ann"
    answer = recommender.recommend(RecommendRequest(user_id="ann", k=NUM_ITEMS))
    assert {f"i{item}" for item in range(NUM_ITEMS)} - set(names(answer)) == {"i5", "i7"}
    with torch.inference_mode():
        slate = numbers(*names(answer))
        request = SlateRequest(
            k=slate.shape[1], exclude=numbers("i5", "i7"), exploration=Exploration(top_m=100, keep=20)
        )
        expected = recommender.artifact.policy.log_prob(state_of(recommender, dataset, "ann", -1), slate, request)[0]
    torch.testing.assert_close(torch.tensor([item.logp for item in answer.items]), expected)
    stranger = recommender.recommend(RecommendRequest(user_id="cleo", k=NUM_ITEMS))
    assert len(stranger.items) == NUM_ITEMS


def test_only_the_newest_events_move_the_state_but_all_are_seen(tmp_path: Path, serve: Open) -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["ann"] * 4,
            "item_id": ["i1", "i2", "i3", "i4"],
            "timestamp": [1, 2, 3, 4],
            "reward": [1.0, 2.0, 3.0, 4.0],
        }
    )
    whole = prepare(frame, out=tmp_path / "data", name="toy")
    newest = prepare(frame[2:], out=tmp_path / "newest", name="toy")
    tables = {"data": {"path": str(whole.path)}, "evaluate": {"max_history": 2}}
    save_artifact(tmp_path / "run" / "artifact", tables=tables)
    recommender = serve(tmp_path / "run")
    answer = recommender.recommend(RecommendRequest(user_id="ann", k=6, explore=Explore(keep=0)))
    assert not set(names(answer)) & {"i1", "i2", "i3", "i4"}
    with torch.inference_mode():
        request = SlateRequest(k=6, exclude=numbers("i1", "i2", "i3", "i4"), exploration=Exploration(top_m=100, keep=0))
        state = state_of(recommender, newest, "ann", -1)
        expected = recommender.artifact.policy.log_prob(state, numbers(*names(answer)), request)[0]
    torch.testing.assert_close(torch.tensor([item.logp for item in answer.items]), expected)


ENCODERS = [
    {"name": "gru", "width": 8, "item_width": 6, "reward_edges": [1.0], "context_width": 2},
    {"name": "tests.serve.summing", "context_width": 2},
]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_context_moves_the_state_and_is_recorded(tmp_path: Path, serve: Open, encoder: dict[str, object]) -> None:
    save_artifact(tmp_path / "run" / "artifact", tables={"encoder": encoder})
    recommender = serve(tmp_path / "run", keep=0, allow_modules=True)
    seen = [[0.1, -1.0], [2.0, 0.25], [0.0, 0.0]]
    for context in seen:
        asked = RecommendRequest(user_id="ann", k=4, context=context if any(context) else None)
        answer = recommender.recommend(asked)
        recommender.feedback([Feedback(event_id=answer.event_id, position=3, value=2)])
    dataset = imported(recommender.events_folder, tmp_path / "data")
    past = in_numbers_of(catalog(), dataset, history(dataset, "ann"))
    torch.testing.assert_close(past.context[0, :3], torch.tensor(seen), rtol=0, atol=0)
    with torch.inference_mode():
        states = recommender.artifact.policy.encoder(past)
        for t in range(3):
            had = past.slate[:, :t, 3]
            request = SlateRequest(k=4, exclude=had, exploration=Exploration(top_m=100, keep=0))
            expected = recommender.artifact.policy.log_prob(states[:, t], past.slate[:, t], request)
            torch.testing.assert_close(past.logp[:, t], expected)


def test_draws_follow_the_seed_and_the_propensities(run: Path, serve: Open, tmp_path: Path) -> None:
    request = RecommendRequest(user_id="ann", k=1, explore=Explore(top_m=3, temperature=2.0))
    shown: list[list[str]] = []
    for attempt in range(2):
        place = {"store": tmp_path / f"s{attempt}", "events": tmp_path / f"e{attempt}"}
        recommender = serve(run, seed=7, **place)
        answers = [recommender.recommend(request) for _ in range(300)]
        shown.append([names(answer)[0] for answer in answers])
    assert shown[0] == shown[1]
    propensity = {names(answer)[0]: answer.items[0].propensity for answer in answers}
    assert sum(propensity.values()) == pytest.approx(1)
    for item, share in propensity.items():
        error = math.sqrt(share * (1 - share) / 300)
        assert abs(shown[0].count(item) / 300 - share) < 4 * error


def test_a_policy_that_always_draws_is_served_too(tmp_path: Path, serve: Open) -> None:
    tables = {"method": {"name": "random"}, "encoder": {"name": "window"}}
    save_artifact(tmp_path / "run" / "artifact", tables=tables)
    answer = serve(tmp_path / "run", greedy=True).recommend(RecommendRequest(user_id="ann", k=2))
    logp = [item.logp for item in answer.items]
    np.testing.assert_allclose(logp, [-math.log(NUM_ITEMS), -math.log(NUM_ITEMS - 1)], rtol=1e-6)
    assert all(item.explored for item in answer.items)


def test_a_policy_of_a_simulated_log_says_so(tmp_path: Path, serve: Open) -> None:
    save_artifact(tmp_path / "run" / "artifact", simulated=True)
    recommender = serve(tmp_path / "run")
    assert recommender.simulated
    assert recommender.recommend(RecommendRequest(user_id="ann")).simulated


def test_moments_only_rise_and_names_of_events_are_63_bits() -> None:
    times = iter([EPOCH + 5, EPOCH + 5, EPOCH + 1, EPOCH + 9])
    clock = Clock(lambda: next(times))
    moments = [clock() for _ in range(4)]
    assert moments == [EPOCH + 5, EPOCH + 6, EPOCH + 7, EPOCH + 9]
    ids = [int(event_name(moment)) for moment in moments]
    assert ids == sorted(ids)
    assert [number >> 12 for number in ids] == [5, 6, 7, 9]
    assert int(event_name(3_900_000_000_000_000)) < 2**63  # the year 2093


def test_the_whole_catalog_comes_back_with_the_log(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run)
    recommender.recommend(RecommendRequest(user_id="ann", k=3))
    dataset = imported(recommender.events_folder, tmp_path / "data")
    # in the numbers of the policy, though only three were shown
    assert dataset.catalog.vocabulary.names.equals(recommender.artifact.catalog.vocabulary.names)
