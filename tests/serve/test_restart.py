"""Ends and beginnings: nothing that was acknowledged is lost, and a new policy takes over the users of the old one."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from msgspec.structs import replace
from tests.serve.events.test_files import disk_of
from tests.serve.world import NUM_ITEMS, Open, imported, save_artifact, state_of
from tests.test_artifact import reseal

from slatewise import config as configs
from slatewise.data import prepare
from slatewise.data.decisions_and_outcomes import Outcome, encode
from slatewise.errors import InputError, SlatewiseError
from slatewise.log import FIRST_ITEM
from slatewise.protocols import Carry, StateEncoder
from slatewise.serve import Feedback, Recommender, RecommendRequest
from slatewise.serve.clock import system_clock
from slatewise.serve.events.files import SegmentedLog
from slatewise.serve.http.schema import Explore
from slatewise.serve.refused import AbandonedError, RefusedError
from slatewise.serve.stores.lmdb import Store
from slatewise.types import Uses

EVERYTHING = RecommendRequest(user_id="ann", k=NUM_ITEMS, explore=Explore(keep=NUM_ITEMS))


def live(recommender: Recommender, turns: int) -> list[str]:
    """Some slates and outcomes; gives the events."""
    events = []
    for turn in range(turns):
        answer = recommender.recommend(RecommendRequest(user_id="ann", k=4))
        recommender.feedback([Feedback(event_id=answer.event_id, position=turn % 4, value=turn + 1.0, outcome_id="1")])
        events.append(answer.event_id)
    return events


def ranking(recommender: Recommender) -> list[str]:
    return [item.item_id for item in recommender.recommend(EVERYTHING).items]


def state(recommender: Recommender) -> torch.Tensor:
    with torch.inference_mode(), recommender.store.transaction():
        return recommender.users.state(recommender.users.find("ann"), []).clone()


def test_a_restart_keeps_states_and_open_events(run: Path, serve: Open) -> None:
    first = serve(run)
    events = live(first, 5)
    waiting = first.recommend(RecommendRequest(user_id="ann", k=4)).event_id
    before, order = state(first), ranking(first)
    first.close()
    log, store = SegmentedLog(run / "serve" / "events"), Store(run / "serve" / "store")
    with store.transaction():
        assert store.followed_to(str(log.folder.resolve())) == log.position  # so nothing is read again at the start
    log.close()
    store.close()
    second = serve(run)
    assert torch.equal(state(second), before)
    assert ranking(second) == order
    late = [
        Feedback(event_id=waiting, position=0),
        Feedback(event_id=events[0], position=0, type="like"),
        Feedback(event_id=events[0], position=1),
    ]
    assert [receipt.moved for receipt in second.feedback(late).outcomes] == [True, False, True]
    again = second.feedback([Feedback(event_id=events[2], position=2, outcome_id="1")])
    assert again.duplicates == 1


@pytest.mark.parametrize("lost", ["whole", "older"])
def test_a_lost_or_older_store_is_made_anew_from_the_log(run: Path, serve: Open, lost: str) -> None:
    first = serve(run)
    events = live(first, 3)
    first.close()
    folder = run / "serve" / "store"
    older = shutil.copytree(folder, run / "older")
    first = serve(run)
    live(first, 3)
    first.feedback([Feedback(user_id="ann", item_id="i7"), Feedback(user_id="ann", item_id="i8", outcome_id="u")])
    before = state(first)
    first.close()
    shutil.rmtree(folder)
    if lost == "older":
        older.rename(folder)
    second = serve(run)
    assert torch.equal(state(second), before)
    known = [
        Feedback(event_id=events[0], position=0, outcome_id="1"),
        Feedback(user_id="ann", item_id="i8", outcome_id="u"),
    ]
    assert second.feedback(known).duplicates == 2


def seen_items(recommender: Recommender) -> list[int]:
    with torch.inference_mode(), recommender.store.transaction():
        seen: list[int] = recommender.users.find("ann").used_items.tolist()
        return seen


def test_following_the_whole_log_again_changes_nothing(run: Path, serve: Open) -> None:
    first = serve(run)
    live(first, 4)
    first.feedback([Feedback(user_id="ann", item_id="i7"), Feedback(user_id="ann", item_id="i7")])
    before = state(first)
    first.close()
    # under another name the log is one that the store has never followed
    (run / "serve" / "events").rename(run / "moved")
    assert torch.equal(state(serve(run, events=run / "moved")), before)


def test_a_log_that_was_taken_away_after_an_import_begins_anew(run: Path, serve: Open) -> None:
    first = serve(run)
    live(first, 4)
    had = seen_items(first)
    first.close()
    shutil.rmtree(first.events_folder)
    second = serve(run)  # its store is ahead of its log
    assert seen_items(second) == had
    live(second, 2)
    after = state(second)
    second.close()
    third = serve(run)
    assert torch.equal(state(third), after)
    assert len(seen_items(third)) == len(had) + 2
    third.close()
    # and once more, followed by another store only: what is shorter than what was followed is another log
    shutil.rmtree(first.events_folder)
    other = serve(run, store=run / "other")
    other.feedback([Feedback(user_id="ann", item_id="i39")])
    other.close()
    assert 39 + FIRST_ITEM in seen_items(serve(run))


def test_a_new_policy_reads_the_users_of_the_old_one(run: Path, serve: Open, tmp_path: Path) -> None:
    first = serve(run)
    live(first, 6)
    order = ranking(first)
    first.close()
    save_artifact(run / "artifact", seed=5)
    second = serve(run)
    assert second.artifact.version != first.artifact.version
    assert ranking(second) != order
    assert sorted(ranking(second)) == sorted(order)
    dataset = imported(second.events_folder, tmp_path / "data")
    torch.testing.assert_close(state(second), state_of(second, dataset, "ann", -1))
    live(second, 1)
    assert len(ranking(second)) == len(order) - 1


def test_memories_of_another_catalog_are_not_read_under_the_same_weights(run: Path, serve: Open) -> None:
    first = serve(run)
    first.feedback([Feedback(user_id="ann", item_id="i7")])
    assert seen_items(first) == [7 + FIRST_ITEM]
    first.close()
    file = run / "artifact" / "items.parquet"
    items = pq.read_table(file)
    pq.write_table(items.set_column(0, "item_id", [items["item_id"].to_pylist()[::-1]]), file)
    reseal(run / "artifact")
    second = serve(run)
    assert second.artifact.version != first.artifact.version
    assert seen_items(second) == [NUM_ITEMS - 1 - 7 + FIRST_ITEM]
    assert "i7" not in ranking(second)


def test_events_that_came_back_with_the_log_are_not_counted_twice(run: Path, serve: Open, tmp_path: Path) -> None:
    first = serve(run)
    live(first, 6)
    first.close()
    dataset = imported(first.events_folder, tmp_path / "data")
    save_artifact(run / "artifact", seed=5)
    second = serve(run, data=dataset.path)  # a new policy, trained on that log: users start from it
    torch.testing.assert_close(state(second), state_of(second, dataset, "ann", -1))
    live(second, 1)
    second.close()
    save_artifact(run / "artifact", seed=6)  # the next one, while the log is still the old one
    third = serve(run, data=dataset.path)
    everything = imported(third.events_folder, tmp_path / "everything")
    torch.testing.assert_close(state(third), state_of(third, everything, "ann", -1))


def test_a_use_that_came_after_the_import_of_its_slate_is_not_lost(run: Path, serve: Open, tmp_path: Path) -> None:
    first = serve(run)
    events = live(first, 3)
    first.close()
    before = imported(first.events_folder, tmp_path / "before")
    second = serve(run)
    late = [Feedback(event_id=events[2], position=0), Feedback(event_id=events[0], position=3, value=3.0)]
    assert [receipt.moved for receipt in second.feedback(late).outcomes] == [True, True]
    second.close()
    everything = imported(second.events_folder, tmp_path / "everything")
    save_artifact(run / "artifact", seed=5)
    third = serve(run, data=before.path)
    torch.testing.assert_close(state(third), state_of(third, everything, "ann", -1))
    assert len(seen_items(third)) == 5


def test_time_goes_on_where_the_log_ends_though_the_clock_was_set_back(run: Path, serve: Open) -> None:
    first = serve(run)
    with first.store.transaction():
        first.store.put_latest_time(system_clock() + 3_600_000_000)
        ahead = first.store.latest_time()
    first.close()
    second = serve(run)
    events = live(second, 2)
    records = [json.loads(line) for line in (second.events_folder / "events-00000001.jsonl").read_text().splitlines()]
    moments = [record.get("received", record["timestamp"]) for record in records]
    assert moments == sorted(set(moments))
    assert moments[1] > ahead  # the first is the catalog's, recorded before
    assert len(events) == 2


def test_a_full_disk_loses_nothing_that_was_acknowledged(run: Path, serve: Open) -> None:
    recommender = serve(run)
    live(recommender, 2)
    before = state(recommender)
    size = (recommender.events_folder / "events-00000001.jsonl").stat().st_size
    waiting = recommender.recommend(RecommendRequest(user_id="ann", k=4)).event_id
    with disk_of(size + 400), pytest.raises(SlatewiseError, match=r"Nothing was recorded"):
        live(recommender, 100)
    assert recommender.decisions == 3
    assert torch.equal(state(recommender), before)
    assert recommender.feedback([Feedback(event_id=waiting, position=0)]).outcomes[0].moved


def test_what_the_log_has_is_acknowledged_although_the_store_is_full(run: Path, serve: Open) -> None:
    recommender = serve(run)
    before = state(recommender)
    log = recommender.events_folder / "events-00000001.jsonl"
    use = Feedback(user_id="ann", item_id="i7")  # nothing names it: sent twice it would count twice
    with disk_of(log.stat().st_size + 2000):  # enough for the log, not for the pages of the store
        (receipt,) = recommender.feedback([use]).outcomes
        assert (receipt.status, receipt.moved) == ("accepted", True)
        recorded = log.read_text()
        assert recorded.count('"i7"') == 1
        for request in (use, Feedback(user_id="ann", item_id="i8")):
            with pytest.raises(SlatewiseError, match="File too large"):
                recommender.feedback([request])
        assert log.read_text() == recorded  # what is refused was not recorded
    assert seen_items(recommender) == []  # the store is behind
    (receipt,) = recommender.feedback([Feedback(user_id="ann", item_id="i8")]).outcomes
    assert receipt.moved
    assert seen_items(recommender) == [7 + FIRST_ITEM, 8 + FIRST_ITEM]
    assert not torch.equal(state(recommender), before)
    after = state(recommender)
    recommender.close()
    shutil.rmtree(run / "serve" / "store")
    assert torch.equal(state(serve(run)), after)


def test_what_a_full_map_refuses_was_not_recorded(run: Path, serve: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slatewise.serve.opening.Store", partial(Store, map_bytes=1 << 18))
    recommender = serve(run)
    log = recommender.events_folder / "events-00000001.jsonl"
    recorded = ""

    def fill() -> None:
        nonlocal recorded
        for number in range(10_000):
            recorded = log.read_text()
            recommender.feedback([Feedback(user_id=f"user {number}", item_id="i7")])

    with pytest.raises(SlatewiseError, match="MDB_MAP_FULL"):
        fill()
    assert len(recorded.splitlines()) > 10
    assert log.read_text() == recorded


@pytest.mark.parametrize("stopped", ["before the append", "after the append"])
def test_a_request_that_was_given_up_is_recorded_or_not_as_its_answer_says(
    run: Path, serve: Open, stopped: str
) -> None:
    recommender = serve(run)
    log = recommender.events_folder / "events-00000001.jsonl"
    recorded = log.read_text()
    asked = iter([False, False, stopped == "before the append"] + [True] * 10)  # once a record, once before the append
    uses = [Feedback(user_id="ann", item_id=item) for item in ("i7", "i8")]
    if stopped == "before the append":
        with pytest.raises(AbandonedError, match="Nothing was recorded"):
            recommender.feedback(uses, lambda: next(asked))
        assert log.read_text() == recorded
        assert seen_items(recommender) == []
    else:
        assert recommender.feedback(uses, lambda: next(asked)).accepted == 2
        assert len(seen_items(recommender)) == 2
    assert recommender.outcomes == len(seen_items(recommender))


def test_a_foreign_line_in_the_log_is_set_aside(run: Path, serve: Open, caplog: pytest.LogCaptureFixture) -> None:
    first = serve(run)
    live(first, 1)
    first.close()
    log = first.events_folder / "events-00000001.jsonl"
    _, decision, outcome = log.read_bytes().splitlines()
    # the decision as it was written before lines had a checksum
    bad = [b'{"record":"surprise"}', b"hello", decision[:-20].replace(b'"ann"', b'"a\\n"') + b"}"]
    changed = outcome.replace(b'"position":0', b'"position":1')
    log.write_bytes(log.read_bytes() + b"\n".join([*bad, changed, b""]))
    live(second := serve(run), 1)
    places = {reason.reason: reason.places for reason in second.set_aside}
    assert list(places) == [
        "not a decision, outcome or catalog",
        "not valid JSON",
        "a name that cannot be used",
        "a checksum that does not match",
    ]
    assert [where[0].partition(":")[0] for where in places.values()] == [
        f"events-00000001.jsonl, line {line}" for line in (4, 5, 6, 7)
    ]
    assert sum("records set aside" in message for message in caplog.messages) == 4
    assert len(seen_items(second)) == 2
    second.close()
    assert serve(run).set_aside == ()  # followed before


def test_a_reward_that_no_state_can_hold_is_refused_and_set_aside(tmp_path: Path, serve: Open) -> None:
    run = tmp_path / "run"
    save_artifact(run / "artifact", tables={"serve": {"rewards": {"click": 1e10, "like": 1.0}}})
    first = serve(run)
    log = first.events_folder / "events-00000001.jsonl"
    good = Feedback(user_id="ann", item_id="i1", type="like")
    for value, index in ((2e20, 0), (1e300, 0), (-2e20, 1)):
        sent = [good] * index + [Feedback(user_id="ann", item_id="i2", value=value)]
        with pytest.raises(RefusedError, match=r"a reward that no state can hold: .*e\+30") as refused:
            first.feedback(sent)
        assert refused.value.error.startswith(f"outcome {index}: " if index else "a reward")
    assert len(log.read_text().splitlines()) == 1
    assert seen_items(first) == []
    first.feedback([good])
    before = state(first)
    first.close()
    # a service of before it was refused has logged one
    outcome = Outcome(event_id="5", timestamp=1, item_id="i2", type="click", value=2e25, user_id="ann")
    log.write_bytes(log.read_bytes() + encode([outcome]) + encode([replace(outcome, event_id="6", value=1e-10)]))
    second = serve(run)
    (reason,) = second.set_aside
    assert (reason.count, reason.places[0].partition(":")[0]) == (1, "events-00000001.jsonl, line 3")
    assert not torch.equal(state(second), before)  # the record after it was applied
    assert len(seen_items(second)) == 2


def test_a_use_that_makes_a_state_infinite_is_refused_and_moves_no_state(
    run: Path, serve: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = serve(run)
    first.feedback([Feedback(user_id="ann", item_id="i1"), Feedback(user_id="ann", item_id="i2", value=101.0)])
    first.close()
    step = type(first.users.encoder).step

    def overflowing(encoder: StateEncoder, carry: Carry, uses: Uses) -> Carry:
        return step(encoder, carry, uses) * (math.inf if float(uses.reward) > 100 else 1)

    monkeypatch.setattr(type(first.users.encoder), "step", overflowing)
    save_artifact(run / "artifact", seed=5)
    second = serve(run)
    assert "i2" not in ranking(second)
    assert bool(torch.isfinite(state(second)).all())
    assert seen_items(second) == [1 + FIRST_ITEM, 2 + FIRST_ITEM]
    assert "does not move the state under this policy: 101 for an item used by 'ann'" in caplog.text
    log = second.events_folder / "events-00000001.jsonl"
    recorded = log.read_text()
    with pytest.raises(RefusedError, match="102 for an item used by 'ann' makes their state infinite"):
        second.feedback([Feedback(user_id="ann", item_id="i3", value=102.0)])
    assert log.read_text() == recorded


def test_two_services_do_not_share_their_folders(run: Path, serve: Open, tmp_path: Path) -> None:
    serve(run)
    with pytest.raises(SlatewiseError, match="belongs to a running service"):
        serve(run)
    with pytest.raises(SlatewiseError, match="belongs to a running service"):
        serve(run, events=tmp_path / "events")
    serve(run, events=tmp_path / "events", store=tmp_path / "store")


@pytest.mark.parametrize("where", ["run", "run/artifact"])
def test_a_run_and_its_artifact_are_the_same_service(run: Path, serve: Open, where: str) -> None:
    recommender = serve(run.parent / where)
    assert recommender.events_folder == run / "serve" / "events"


def test_a_folder_without_a_policy_is_refused(tmp_path: Path, serve: Open) -> None:
    with pytest.raises(InputError, match="no such folder"):
        serve(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no run here: neither manifest\.json nor artifact/manifest\.json"):
        serve(tmp_path)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"keeps": 1}, {}, r'config\.toml \[serve\] has an unknown key "keeps"; did you mean "keep"'),
        ({"temperature": 0}, {}, "expected a number above 0"),
        ({}, {"temperature": -1.0}, "expected a number above 0"),
        ({}, {"data": Path("/nowhere")}, "there is no prepared data set"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, serve: Open, table: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    folder = save_artifact(tmp_path / "run" / "artifact")
    config = configs.read_toml(folder / "config.toml")
    (folder / "config.toml").write_text(configs.dump_toml(config | {"serve": table}), encoding="utf-8")
    reseal(folder)
    with pytest.raises(InputError, match=message):
        serve(tmp_path / "run", **options)
    assert not (tmp_path / "run" / "serve").exists()


def test_options_stand_above_the_run(tmp_path: Path, serve: Open) -> None:
    save_artifact(tmp_path / "run" / "artifact", tables={"serve": {"top_m": 7, "keep": 2, "greedy": True}})
    as_it_says = serve(tmp_path / "run").config
    assert (as_it_says.top_m, as_it_says.keep, as_it_says.greedy, as_it_says.temperature) == (7, 2, True, 1.0)
    other = {"events": tmp_path / "e", "store": tmp_path / "s", "keep": 0, "greedy": False}
    ours = serve(tmp_path / "run", **other).config
    assert (ours.top_m, ours.keep, ours.greedy) == (7, 0, False)


def test_a_log_that_is_gone_leaves_strangers(tmp_path: Path, serve: Open) -> None:
    frame = pl.DataFrame({"user_id": ["ann"], "item_id": ["i5"], "timestamp": [1], "reward": [4.0]})
    prepare(frame, out=tmp_path / "data", name="toy")
    save_artifact(tmp_path / "run" / "artifact", tables={"data": {"path": str(tmp_path / "data")}})
    first = serve(tmp_path / "run")
    assert len(ranking(first)) == NUM_ITEMS - 1
    first.close()
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "run" / "serve")
    assert len(ranking(serve(tmp_path / "run", without_history=True))) == NUM_ITEMS
