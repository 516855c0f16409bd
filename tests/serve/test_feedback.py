"""Outcomes: the first of an item moves the state, repeated ones do nothing, what does not fit is refused whole."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import msgspec
import pytest
import torch
from tests.serve.world import NUM_ITEMS, Open, catalog, history, imported, in_numbers_of, save_artifact

from slatewise.data.decisions_and_outcomes import Outcome
from slatewise.ops.history import history_of
from slatewise.serve import Feedback, Recommender, RecommendRequest
from slatewise.serve.http.schema import Explore
from slatewise.serve.journal import outcome_key
from slatewise.serve.memory import carry_after_each
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


def test_the_first_outcome_of_an_item_moves_the_state_later_ones_are_recorded(run: Path, serve: Open) -> None:
    recommender = serve(run)
    event, before = slate(recommender)
    first = recommender.feedback([Feedback(event_id=event, position=1)])
    assert [receipt.moved for receipt in first.outcomes] == [True]
    _, after = slate(recommender)
    assert after != before
    later = [
        Feedback(event_id=event, item_id=before[1], type="purchase", value=9.0),
        Feedback(event_id=event, position=3, type="viewed", value=0.0),
        Feedback(event_id=event, position=3, type="dislike", value=-1.0),
    ]
    receipts = recommender.feedback(later).outcomes
    assert [(receipt.status, receipt.moved) for receipt in receipts] == [("accepted", False)] * 3
    assert slate(recommender)[1] == after
    assert [receipt.moved for receipt in recommender.feedback([Feedback(event_id=event, position=3)]).outcomes] == [
        True
    ]
    assert slate(recommender)[1] != after
    assert sum('"outcome"' in line for line in lines(recommender)) == 5
    assert recommender.outcomes == 5


def test_none_of_several_used_items_is_shown_again(run: Path, serve: Open) -> None:
    recommender = serve(run)
    event, items = slate(recommender)
    recommender.feedback([Feedback(event_id=event, position=0), Feedback(event_id=event, position=2)])
    recommender.feedback([Feedback(event_id=event, position=3, type="purchase", value=20.0)])
    shown = recommender.recommend(RecommendRequest(user_id="ann", k=NUM_ITEMS, explore=Explore(keep=NUM_ITEMS))).items
    assert {item.item_id for item in shown} == {f"i{n}" for n in range(NUM_ITEMS)} - {items[0], items[2], items[3]}


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


def test_a_use_outside_of_a_slate_is_an_event_of_its_own_when_it_arrives(
    run: Path, serve: Open, tmp_path: Path
) -> None:
    recommender = serve(run)
    long_ago = 1_600_000_000_000_000
    answer = recommender.feedback(
        [
            Feedback(user_id="ann", item_id="i3", type="rating", value=4.0, timestamp=long_ago + 9),
            Feedback(user_id="ann", item_id="somewhere else", value=2.0, timestamp=long_ago),
            Feedback(user_id="ann", item_id="i4", type="rating", value=-1.0),
            Feedback(user_id="ann", item_id="i3", type="rating", value=1.0),
        ]
    )
    assert [receipt.moved for receipt in answer.outcomes] == [True, True, False, True]
    dataset = imported(recommender.events_folder, tmp_path / "data")
    past = in_numbers_of(catalog(), dataset, history(dataset, "ann"))
    assert past.slate[0].tolist() == [[5], [1], [6], [5]]
    assert past.reward[0].tolist() == [[4.0], [2.0], [-1.0], [1.0]]
    assert past.choice[0].tolist() == [0, 0, -1, 0]
    records = [json.loads(line) for line in lines(recommender)]
    assert past.time[0].tolist() == [record["received"] for record in records]
    assert [record["timestamp"] for record in records[:2]] == [long_ago + 9, long_ago]
    assert past.used_time[0, :, 0].tolist() == [t if t != past.time[0, 2] else 0 for t in past.time[0].tolist()]
    assert not past.logp_known.any()


def _live(recommender: Recommender) -> dict[int, torch.Tensor]:
    """Late and several uses of slates, which cross each other; by event the state that was served there."""
    states: dict[int, torch.Tensor] = {}
    events: list[str] = []

    def decide() -> None:
        with torch.inference_mode(), recommender.store.transaction():
            context = [float(len(events)), 1.0][: recommender.users.context_width]
            state = recommender.users.state(recommender.users.find("ann"), context).clone()
        answer = recommender.recommend(RecommendRequest(user_id="ann", k=4, context=context or None))
        events.append(answer.event_id)
        states[int(answer.event_id)] = state

    def say(*told: tuple[int, int, str, float]) -> list[bool]:
        sent = [Feedback(event_id=events[e], position=at, type=kind, value=value) for e, at, kind, value in told]
        return [receipt.moved for receipt in recommender.feedback(sent).outcomes]

    decide()
    assert say((0, 1, "viewed", 0.0), (0, 2, "click", 1.0)) == [False, True]
    decide()
    decide()
    # the second slate before the first, the last position before the first; a purchase after its view
    assert say((1, 3, "click", 2.0), (0, 0, "click", 3.0), (1, 0, "click", 1.0)) == [True, True, True]
    assert say((0, 1, "purchase", 4.0), (0, 2, "purchase", 5.0)) == [True, False]
    decide()
    recommender.feedback([Feedback(user_id="ann", item_id="i33", value=2.0)])
    assert say((2, 1, "dislike", -2.0), (2, 1, "click", 1.0), (3, 0, "click", 2.5)) == [False, True, True]
    decide()
    decide()
    assert say((0, 3, "click", 1.5), (5, 2, "click", 1.0)) == [True, True]
    decide()
    return states


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "gru", "width": 8, "item_width": 6, "reward_edges": [1.0, 3.0], "context_width": 0},
        {"name": "cfn", "width": 8, "item_width": 6, "reward_edges": [1.0, 3.0], "context_width": 2},
        {"name": "liked", "width": 6, "reward_at_least": 1.0, "context_width": 2},
        {"name": "window", "length": 5},
        {"name": "tests.serve.summing", "context_width": 2},
    ],
    ids=lambda table: table["name"],
)
def test_states_rebuilt_from_the_log_are_those_that_were_served(
    tmp_path: Path, serve: Open, encoder: dict[str, object]
) -> None:
    methods = {"window": "item_knn", "tests.serve.summing": "popularity"}
    method = {"name": methods.get(str(encoder["name"]), "cloning")}
    save_artifact(tmp_path / "run" / "artifact", tables={"encoder": encoder, "method": method})
    recommender = serve(tmp_path / "run", keep=2, allow_modules=True)
    served = _live(recommender)
    dataset = imported(recommender.events_folder, tmp_path / "data")
    past = in_numbers_of(catalog(), dataset, history(dataset, "ann"))
    policy = recommender.artifact.policy
    order = history_of(past)
    with torch.inference_mode():
        states = policy.encoder(past)
        for t, event in enumerate(past.event_id[0].tolist()):
            if event not in served:
                assert past.slate[0, t].tolist() == [35, 0, 0, 0]  # the use outside of any slate
                continue
            had = order.uses.columns(slice(0, int(order.count[0, t])))
            carry = carry_after_each(policy.encoder, policy.encoder.initial(1), had)
            assert torch.equal(policy.encoder.state(carry, past.observation(t)), served[event])
            # `forward` multiplies whole histories at once: the last bit of a product may differ
            exact = encoder["name"] in ("window", "tests.serve.summing")
            torch.testing.assert_close(
                states[:, t], served[event], rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6
            )
            request = SlateRequest(k=4, exclude=had.item, exploration=recommender.config.exploration(4))
            expected = policy.log_prob(states[:, t], past.slate[:, t], request)
            torch.testing.assert_close(past.logp[:, t], expected)
    assert len(served) == 7
    assert order.uses.item.shape == (1, 10)
    # the reward of what was used twice or after a view is the sum, a state reads what the use was worth
    first = next(t for t, event in enumerate(past.event_id[0].tolist()) if event == min(served))
    assert past.reward[0, first].tolist() == [3.0, 4.0, 6.0, 1.5]
    assert past.use_reward[0, first].tolist() == [3.0, 4.0, 1.0, 1.5]


def test_a_late_purchase_was_not_seen_by_the_decision_before_it(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run, greedy=True)
    first, before = slate(recommender)
    second = recommender.recommend(RecommendRequest(user_id="ann", k=5))
    assert [item.item_id for item in second.items] == before  # nothing has happened yet
    recommender.feedback([Feedback(event_id=first, position=0, type="purchase", value=5.0)])
    dataset = imported(recommender.events_folder, tmp_path / "data")
    past = in_numbers_of(catalog(), dataset, history(dataset, "ann"))
    with torch.inference_mode():
        states = recommender.artifact.policy.encoder(past)
    assert torch.equal(states[:, 1], states[:, 0])
    assert not torch.equal(states[:, 2], states[:, 1])


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
        (
            {"event_id": "EVENT"},
            'the slate of event "EVENT" is named, and nothing of it; expected an item',
        ),
        ({"event_id": "EVENT", "position": 5}, 'the slate of event "EVENT" has no position 5; expected an item or'),
        ({"event_id": "EVENT", "position": 5}, 'a position of the slate ("FIRST", "SECOND", '),
        ({"event_id": "EVENT", "position": 5}, "; positions 0 to 4); both must agree. Send what /recommend answered"),
        ({"event_id": "EVENT", "item_id": "i999"}, 'the slate of event "EVENT" does not show "i999"'),
        ({"event_id": "EVENT", "item_id": "SECOND", "position": 0}, 'shows "SECOND" at position 1, not at position 0'),
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
    named = {"EVENT": event, "FIRST": items[0], "SECOND": items[1]}
    filled = {key: named.get(str(value), value) for key, value in fields.items()}
    for word, name in named.items():
        message = message.replace(word, name)
    feedback = msgspec.convert(filled, Feedback)
    with pytest.raises(RefusedError, match=re.escape(message)):
        recommender.feedback([feedback])
    assert len(lines(recommender)) == 1


def test_keys_of_outcomes_do_not_run_together() -> None:
    # built without the check of names: such outcomes stand in logs of before it
    def use(user_id: str, outcome_id: str | None = None, event_id: str = "1") -> Outcome:
        outcome = Outcome(event_id="1", timestamp=1, item_id="i1", type="click", user_id="ann", outcome_id="x")
        for field, value in (("user_id", user_id), ("outcome_id", outcome_id), ("event_id", event_id)):
            msgspec.structs.force_setattr(outcome, field, value)
        return outcome

    assert outcome_key(use("a\nb", "c"), 0) != outcome_key(use("a", "b\nc"), 0)
    assert outcome_key(use("a", event_id='b","c'), 0) != outcome_key(use("a", "c", event_id="b"), 0)
    assert outcome_key(use("a", "c", event_id="1"), 0) == outcome_key(use("a", "c", event_id="2"), 0)
    slate = Outcome(event_id="1", timestamp=1, position=1, type="0")
    keys = {outcome_key(slate, position) for position in (0, 1, 10)}
    keys |= {outcome_key(msgspec.structs.replace(slate, outcome_id="1"), 0)}
    assert keys == {'["at","1",0,"0"]', '["at","1",1,"0"]', '["at","1",10,"0"]', '["id","1","1"]'}


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
