"""Outcomes: the first one moves the state, repeated ones do nothing, what does not fit is refused whole."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import torch
from tests.serve.world import Open, catalog, history, imported, in_numbers_of, save_artifact

from slatewise.serve import Feedback, Recommender, RecommendRequest
from slatewise.serve.http.schema import Explore
from slatewise.serve.refused import RefusedError, UnknownEventError
from slatewise.types import SlateRequest

GREEDY = Explore(keep=5)


def slate(recommender: Recommender, user_id: str = "ann", k: int = 5) -> tuple[str, list[str]]:
    answer = recommender.recommend(RecommendRequest(user_id=user_id, k=k, explore=GREEDY))
    return answer.event_id, [item.item_id for item in answer.items]


def lines(recommender: Recommender) -> list[str]:
    """Decisions and outcomes; the log begins with the catalog."""
    catalog, *records = (recommender.events_folder / "events-00000001.jsonl").read_text().splitlines()
    assert '"catalog"' in catalog
    return records


def test_the_first_outcome_moves_the_state_later_ones_are_recorded(run: Path, serve: Open) -> None:
    recommender = serve(run)
    event, before = slate(recommender)
    first = recommender.feedback([Feedback(event_id=event, position=1)])
    assert [receipt.moved for receipt in first.outcomes] == [True]
    _, after = slate(recommender)
    assert after != before
    later = recommender.feedback(
        [Feedback(event_id=event, position=3), Feedback(event_id=event, item_id=before[1], type="purchase", value=9.0)]
    )
    assert [(receipt.status, receipt.moved) for receipt in later.outcomes] == [("accepted", False)] * 2
    assert slate(recommender)[1] == after
    assert sum('"outcome"' in line for line in lines(recommender)) == 3
    assert recommender.outcomes == 3


def test_repeated_outcomes_do_nothing(run: Path, serve: Open) -> None:
    recommender = serve(run)
    event, items = slate(recommender)
    named = Feedback(event_id=event, position=0, outcome_id="x")
    plain = Feedback(event_id=event, item_id=items[2], type="like")
    use = Feedback(user_id="ann", item_id="i33", outcome_id="x")
    first = recommender.feedback([named, plain, use, named])
    assert [receipt.status for receipt in first.outcomes] == ["accepted", "accepted", "accepted", "duplicate"]
    state = slate(recommender)[1]
    written = len(lines(recommender))
    again = recommender.feedback([Feedback(event_id=event, position=2, type="like"), use, named])
    assert (again.accepted, again.duplicates) == (0, 3)
    assert [receipt.event_id for receipt in again.outcomes] == [event, first.outcomes[2].event_id, event]
    assert len(lines(recommender)) == written
    assert slate(recommender)[1] == state


def test_an_outcome_id_counts_within_its_event(run: Path, serve: Open) -> None:
    recommender = serve(run)
    (one, _), (two, _) = slate(recommender, "ann"), slate(recommender, "ben")
    answer = recommender.feedback(
        [
            Feedback(event_id=one, position=0, outcome_id="1"),
            Feedback(event_id=two, position=0, outcome_id="1"),
            Feedback(user_id="cleo", item_id="i1", outcome_id="1"),
            Feedback(user_id="dora", item_id="i1", outcome_id="1"),
        ]
    )
    assert answer.accepted == 4
    assert all(receipt.moved for receipt in answer.outcomes)


def test_a_use_outside_of_a_slate_is_an_event_of_its_own(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run)
    recommender.feedback(
        [
            Feedback(user_id="ann", item_id="i3", type="rating", value=4.0, timestamp=1_600_000_000_000_000),
            Feedback(user_id="ann", item_id="somewhere else", value=2.0, timestamp=1_600_000_001_000_000),
            Feedback(user_id="ann", item_id="i3", type="rating", value=1.0, timestamp=1_600_000_002_000_000),
        ]
    )
    dataset = imported(recommender.events_folder, tmp_path / "data")
    past = in_numbers_of(catalog(), dataset, history(dataset, "ann"))
    assert past.slate[0].tolist() == [[5], [1], [5]]
    assert past.reward[0].tolist() == [[4.0], [2.0], [1.0]]
    assert past.choice[0].tolist() == [0, 0, 0]
    assert past.time[0].tolist() == [1_600_000_000_000_000, 1_600_000_001_000_000, 1_600_000_002_000_000]
    assert not past.logp_known.any()


def test_the_state_after_many_events_is_forward_over_the_log(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run, keep=0)
    outside = 0
    for turn in range(12):
        answer = recommender.recommend(RecommendRequest(user_id="ann", k=3))
        if turn % 4 == 3:
            continue  # nobody used it: the state stays
        recommender.feedback([Feedback(event_id=answer.event_id, position=turn % 3, value=float(turn % 5))])
        if turn % 5 == 0:
            recommender.feedback([Feedback(user_id="ann", item_id=f"i{turn}", value=3.0)])
            outside += 1
    dataset = imported(recommender.events_folder, tmp_path / "data")
    past = in_numbers_of(catalog(), dataset, history(dataset, "ann"))
    assert past.mask.shape[1] == 12 + outside
    seen: list[int] = []
    checked = 0
    with torch.inference_mode():
        states = recommender.artifact.policy.encoder(past)
        for t in range(past.mask.shape[1]):
            if past.logp_known[0, t]:
                request = SlateRequest(
                    k=3,
                    exclude=torch.tensor([seen], dtype=torch.int64),
                    exploration=recommender.config.exploration(3),
                )
                expected = recommender.artifact.policy.log_prob(states[:, t], past.slate[:, t], request)
                torch.testing.assert_close(past.logp[:, t], expected)
                checked += 1
            if past.choice[0, t] >= 0:
                seen.append(int(past.slate[0, t, past.choice[0, t]]))
    assert checked == 12


def test_rewards_follow_the_configured_table(tmp_path: Path, serve: Open) -> None:
    encoder = {"name": "window", "length": 3}
    rewards = {"click": 0.5, "purchase": 10}
    save_artifact(tmp_path / "run" / "artifact", tables={"encoder": encoder, "serve": {"rewards": rewards}})
    recommender = serve(tmp_path / "run")
    recommender.feedback(
        [
            Feedback(user_id="ann", item_id="i1", type="click", value=3.0),
            Feedback(user_id="ann", item_id="i2", type="purchase"),
        ]
    )
    with recommender.store.transaction():
        state = recommender.users.state(recommender.users.find("ann"), [])
    assert state.tolist() == [[4.0, 3.0, 0.0, 10.0, 1.5, 0.0]]  # newest first: i2, i1; then their rewards
    with pytest.raises(RefusedError, match='of type "like"; expected one of: click, purchase'):
        recommender.feedback([Feedback(user_id="ann", item_id="i1", type="like")])


NOW = time.time_ns() // 1000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_id": "EVENT"}, "item_id None and position None name nothing in the slate; expected a position from 0"),
        ({"event_id": "EVENT", "position": 5}, "position 5 name nothing"),
        ({"event_id": "EVENT", "item_id": "i999"}, "item_id 'i999'"),
        ({"event_id": "EVENT", "item_id": "SECOND", "position": 0}, "both must agree"),
        ({"event_id": "EVENT", "position": 0, "user_id": "ben"}, 'was not served to "ben"'),
        ({"user_id": "ann"}, "without event_id it is not clear who used what"),
        ({"item_id": "i1"}, "expected event_id with item_id or position, or user_id with item_id"),
        ({"user_id": "ann", "item_id": "i1", "position": 0}, "without event_id"),
        ({"event_id": "EVENT", "position": 0, "timestamp": 1_700_000_000}, "expected microseconds since 1970"),
        ({"event_id": "EVENT", "position": 0, "timestamp": NOW + 10 * 86_400_000_000}, "between the year 2000 and"),
    ],
)
def test_an_outcome_that_does_not_fit_is_refused(
    run: Path, serve: Open, fields: dict[str, object], message: str
) -> None:
    recommender = serve(run)
    event, items = slate(recommender)
    named = {"EVENT": event, "SECOND": items[1]}
    filled = {key: named.get(str(value), value) for key, value in fields.items()}
    feedback = msgspec.convert(filled, Feedback)
    with pytest.raises(RefusedError, match=message):
        recommender.feedback([feedback])
    assert len(lines(recommender)) == 1


def test_an_unknown_event_is_one_that_was_not_served_here(run: Path, serve: Open) -> None:
    recommender = serve(run)
    with pytest.raises(UnknownEventError, match='no event "17"'):
        recommender.feedback([Feedback(event_id="17", position=0)])
    use = recommender.feedback([Feedback(user_id="ann", item_id="i1")]).outcomes[0].event_id
    with pytest.raises(UnknownEventError, match="no event"):
        recommender.feedback([Feedback(event_id=use, position=0)])


def test_a_list_is_taken_whole_or_not_at_all(run: Path, serve: Open) -> None:
    recommender = serve(run)
    event, _ = slate(recommender)
    good, bad = Feedback(event_id=event, position=0), Feedback(event_id=event, position=99)
    with pytest.raises(RefusedError, match=r"outcome 1: .* position 99"):
        recommender.feedback([good, bad])
    assert len(lines(recommender)) == 1
    assert recommender.feedback([good]).outcomes[0].moved
