from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from slatewise.data import prepared
from slatewise.data.manifest import Kind, Provenance
from slatewise.data.merge_account import MergeAccount
from slatewise.data.merging import merge, merge_catalogs
from slatewise.data.prepared import Dataset
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.logged_requests import ItemLists, LoggedRequests
from slatewise.testing import written_log

POLICIES = ["", "p1"]


def catalog(names: Sequence[str], *, titles: Sequence[str] = (), groups: Sequence[str] = ()) -> Catalog:
    known = sorted({group for group in groups if group})
    number = {"": 0} | {group: index for index, group in enumerate(known, start=1)}
    return Catalog(
        vocabulary=Vocabulary(names=pa.array(names, pa.string())),
        text=("", "", *(titles or [""] * len(names))),
        group=np.array([0, 0, *(number[group] for group in groups or [""] * len(names))]),
        group_names=("", *known),
        features=np.zeros((len(names) + FIRST_ITEM, 0), np.float32),
    )


def dataset(
    path: Path,
    events: dict[str, list[dict[str, Any]]],
    *,
    items: Catalog,
    policies: Sequence[str] = POLICIES,
    requests: LoggedRequests | None = None,
    kind: Kind = "impressions",
    context: tuple[str, ...] = (),
    **provenance: Any,
) -> Dataset:
    """A prepared data set of named users; items are given by name."""
    numbered = [
        [{**event, "items": [items.vocabulary.number(name) for name in event["items"]]} for event in of_user]
        for of_user in events.values()
    ]
    return prepared.write(
        path,
        name=path.name,
        interactions=replace(written_log(numbered), requests=requests),
        catalog=items,
        users=Vocabulary(names=pa.array(list(events), pa.string()), first=0, unknown=-1),
        policies=Vocabulary(names=pa.array(policies, pa.string()), first=0, unknown=0),
        catalogs=Vocabulary(names=pa.array(["", "v1"], pa.string()), first=0, unknown=0),
        kind=kind,
        context=context,
        provenance=Provenance(**provenance),
    )


def rows_of(data: Dataset) -> dict[str, list[tuple[Any, ...]]]:
    """For each user the events: time, id, policy, and item, reward, used of each row."""
    log, result = data.interactions, {}
    for user in range(log.num_users):
        events = []
        for event in range(int(log.user_offsets[user]), int(log.user_offsets[user + 1])):
            rows = range(int(log.event_offsets[event]), int(log.event_offsets[event + 1]))
            shown = [
                (data.catalog.vocabulary.name(int(log.item[row])), float(log.reward[row]), bool(log.used[row]))
                for row in rows
            ]
            policy = data.policies.name(int(log.policy_id[event]))
            events.append((int(log.time[event]), int(log.event_id[event]), policy, shown))
        result[data.users.name(user)] = events
    return result


def slate(number: int, time: int, items: list[str], **more: Any) -> dict[str, Any]:
    """A slate of which nothing was used."""
    nothing = {"used": [], "rewards": [0.0] * len(items), "logp": [-0.5] * len(items)}
    return {"id": number, "time": time, "items": items, "policy": 1, **nothing, **more}


def test_a_day_after_the_other(tmp_path: Path) -> None:
    day_1 = dataset(
        tmp_path / "day-1",
        {"ann": [slate(11, 5, ["a", "b"]), slate(12, 30, ["b", "c"])], "bob": [slate(13, 9, ["c", "a"])]},
        items=catalog("abc", titles=["A", "B", ""]),
    )
    day_2 = dataset(
        tmp_path / "day-2",
        {"cid": [slate(21, 50, ["d", "a"])], "ann": [slate(22, 20, ["c", "d"]), slate(23, 60, ["d", "b"])]},
        items=catalog("dcba", titles=["D", "C", "other B", ""]),
        policies=["", "p2"],
    )
    merged, account = merge(day_1, day_2, tmp_path / "both")
    assert account == MergeAccount(
        added=3, duplicates=0, late_outcomes=0, set_aside=0, new_users=1, new_items=1, featureless_items=0
    )
    assert merged.catalog.vocabulary.names.to_pylist() == ["a", "b", "c", "d"]
    assert merged.catalog.text == ("", "", "A", "B", "C", "D")
    unused = {name: (name, 0.0, False) for name in "abcd"}
    assert rows_of(merged) == {
        "ann": [
            (5, 11, "p1", [unused["a"], unused["b"]]),
            (20, 22, "p2", [unused["c"], unused["d"]]),
            (30, 12, "p1", [unused["b"], unused["c"]]),
            (60, 23, "p2", [unused["d"], unused["b"]]),
        ],
        "bob": [(9, 13, "p1", [unused["c"], unused["a"]])],
        "cid": [(50, 21, "p2", [unused["d"], unused["a"]])],
    }
    assert merged.interactions.logp.tolist() == [-0.5] * 12


def test_the_same_day_twice_is_counted_and_not_doubled(tmp_path: Path) -> None:
    events = {"ann": [slate(1, 5, ["a", "b"], used=[0], rewards=[1.0, 0.0]), slate(2, 9, ["b", "a"])]}
    day = dataset(tmp_path / "day", events, items=catalog("ab"))
    merged, account = merge(day, day, tmp_path / "day")
    assert (account.added, account.duplicates, account.late_outcomes, account.set_aside) == (0, 2, 0, 0)
    assert rows_of(merged) == rows_of(dataset(tmp_path / "again", events, items=catalog("ab")))
    assert account.sentences() == [
        "0 events added, 0 new users, 0 new items.",
        "2 events were there already: left out.",
    ]


def outcome(number: int, time: int, item: str, reward: float) -> dict[str, Any]:
    """An outcome whose slate is in another log."""
    return {"id": number, "time": time, "items": [item], "policy": 0, "used_times": [time], "rewards": [reward]}


def test_outcomes_that_came_late_go_to_their_slates(tmp_path: Path) -> None:
    shown = slate(1, 5, ["a", "b", "c"], used=[2], used_times=[7], use_rewards=[1.0], rewards=[0.0, 0.0, 1.0])
    day_1 = dataset(tmp_path / "day-1", {"ann": [shown]}, items=catalog("abc"))
    day_2 = dataset(
        tmp_path / "day-2",
        {
            "ann": [outcome(1, 90, "b", 5.0), slate(2, 95, ["a", "b"])],
            "bob": [outcome(1, 91, "a", 1.0)],
        },
        items=catalog("ba"),
    )
    merged, account = merge(day_1, day_2, tmp_path / "both")
    # bob was not shown slate 1
    assert (account.added, account.duplicates, account.late_outcomes, account.set_aside) == (1, 0, 1, 1)
    assert rows_of(merged)["ann"][0][3] == [("a", 0.0, False), ("b", 5.0, True), ("c", 1.0, True)]
    log = merged.interactions
    assert log.used_time[:3].tolist() == [0, 90, 7]
    assert log.use_reward[:3].tolist() == [0.0, 5.0, 1.0]
    further, second = merge(
        merged,
        dataset(
            tmp_path / "day-3",
            {"ann": [outcome(1, 120, "c", 2.0), {**outcome(1, 121, "a", 1.0)}, outcome(1, 122, "d", 1.0)]},
            items=catalog("cad"),
        ),
        tmp_path / "three",
    )
    assert (second.late_outcomes, second.set_aside) == (2, 1)
    assert rows_of(further)["ann"][0][3] == [("a", 1.0, True), ("b", 5.0, True), ("c", 3.0, True)]
    assert further.interactions.used_time[:3].tolist() == [121, 90, 7]
    assert further.interactions.use_reward[:3].tolist() == [1.0, 5.0, 1.0]


def test_uses_without_names_of_events(tmp_path: Path) -> None:
    def plays(*plays: tuple[int, str, int]) -> list[dict[str, Any]]:
        return [{"id": number, "time": time, "items": [item], "policy": 0} for number, item, time in plays]

    options: dict[str, Any] = {"items": catalog("ab"), "kind": "uses", "policies": [""]}
    first = dataset(tmp_path / "1", {"ann": plays((0, "a", 1), (2, "b", 3)), "bob": plays((1, "a", 2))}, **options)
    second = dataset(tmp_path / "2", {"ann": plays((0, "b", 3), (1, "a", 4), (2, "a", 9))}, **options)
    merged, account = merge(first, second, tmp_path / "both")
    assert (account.added, account.duplicates) == (2, 1)
    assert [(time, number) for time, number, *_ in rows_of(merged)["ann"]] == [(1, 0), (3, 2), (4, 3), (9, 4)]
    again, account = merge(merged, second, tmp_path / "both")
    assert (account.added, account.duplicates) == (0, 3)
    assert rows_of(again) == rows_of(merged)


def test_conditions_of_requests_stay_with_their_slates(tmp_path: Path) -> None:
    def requests(item: int, *, events: int) -> LoggedRequests:
        number = np.arange(1, events + 1)
        lists = ItemLists(offsets=np.arange(events + 1), item=np.full(events, item))
        return LoggedRequests(
            k=number,
            top_m=number,
            keep=number,
            temperature=number / 2,
            exclude_seen=number > 1,
            catalog=np.ones(events, np.int32),
            exclude=lists,
        )

    first = dataset(tmp_path / "1", {"ann": [slate(1, 5, ["a"])]}, items=catalog("ab"))
    second = dataset(
        tmp_path / "2",
        {"ann": [slate(2, 3, ["a"]), slate(3, 8, ["a"])]},
        items=catalog("ba"),
        requests=requests(FIRST_ITEM, events=2),
    )
    merged, _ = merge(first, second, tmp_path / "both")
    conditions = merged.interactions.requests
    assert conditions is not None
    assert conditions.exclude is not None
    assert [conditions.k.tolist(), conditions.catalog.tolist()] == [[1, 0, 2], [1, 0, 1]]
    # item 2 of the second log, "b", is item 3 of both
    assert [conditions.exclude.of(event).tolist() for event in range(3)] == [[3], [], [3]]
    assert merged.catalogs.names.to_pylist() == ["", "v1"]


def test_catalogs_keep_what_the_first_one_says() -> None:
    first = replace(
        catalog("ab", titles=["A", ""], groups=["x", ""]), features=np.array([[0.0], [0], [1], [2]], np.float32)
    )
    second = catalog("cba", titles=["C", "B", "other A"], groups=["y", "x", "y"])
    merged = merge_catalogs(first, second)
    assert merged.text == ("", "", "A", "B", "C")
    assert [merged.group_names[number] for number in merged.group] == ["", "", "x", "x", "y"]
    assert merged.features.ravel().tolist() == [0.0, 0.0, 1.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"clock": False}, r'1 has times \(column "timestamp"\), 2 has none'),
        ({"simulated": True}, "2 is simulated, 1 is not"),
        ({"context": ("context_age",)}, "different columns of context: 1 has none, 2 has context_age"),
    ],
)
def test_logs_that_do_not_belong_together(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    event = {"ann": [slate(1, 5, ["a"])]}
    first = dataset(tmp_path / "1", event, items=catalog("a"))
    second = dataset(tmp_path / "2", event, items=catalog("a"), **other)
    with pytest.raises(InputError, match=message):
        merge(first, second, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_log_that_has_grown_is_appended_again(tmp_path: Path) -> None:
    first = slate(1, 5, ["a", "b", "c"], used=[2], used_times=[7], use_rewards=[1.0], rewards=[0.0, 0.0, 1.0])
    day_1 = dataset(tmp_path / "1", {"ann": [first]}, items=catalog("abc"))
    grown = {
        **slate(1, 5, ["a", "b", "c"]),
        **{"used": [0, 2], "used_times": [50, 7], "use_rewards": [2.0, 1.0], "rewards": [2.0, 0.0, 4.0]},
    }
    both_days = dataset(tmp_path / "2", {"ann": [grown, slate(2, 60, ["b"])]}, items=catalog("cba"))
    merged, account = merge(day_1, both_days, tmp_path / "both")
    assert (account.added, account.duplicates, account.late_outcomes, account.set_aside) == (1, 1, 2, 0)
    assert rows_of(merged)["ann"][0][3] == [("a", 2.0, True), ("b", 0.0, False), ("c", 4.0, True)]
    assert merged.interactions.used_time[:3].tolist() == [50, 0, 7]
    # what knows less changes nothing
    again, account = merge(merged, day_1, tmp_path / "again")
    assert (account.added, account.duplicates, account.late_outcomes, account.set_aside) == (0, 1, 0, 0)
    assert rows_of(again) == rows_of(merged)


def test_late_outcomes_that_come_again_count_once(tmp_path: Path) -> None:
    first = slate(1, 5, ["a", "b"], used=[1], used_times=[7], use_rewards=[1.0], rewards=[0.0, 1.0])
    day_1 = dataset(tmp_path / "1", {"ann": [first]}, items=catalog("ab"))
    day_2 = dataset(tmp_path / "2", {"ann": [outcome(1, 90, "a", 5.0), outcome(1, 95, "b", 2.0)]}, items=catalog("ba"))
    merged, account = merge(day_1, day_2, tmp_path / "both")
    assert (account.late_outcomes, account.duplicates) == (2, 0)
    assert rows_of(merged)["ann"][0][3] == [("a", 5.0, True), ("b", 3.0, True)]
    for _ in range(2):
        merged, account = merge(merged, day_2, tmp_path / "both")
        assert (account.added, account.late_outcomes, account.duplicates, account.set_aside) == (0, 0, 2, 0)
        assert rows_of(merged)["ann"][0][3] == [("a", 5.0, True), ("b", 3.0, True)]


@pytest.mark.parametrize("other", [slate(1, 5, ["b", "a"]), slate(1, 5, ["a"]), slate(1, 6, ["a", "b"])])
def test_another_slate_of_the_same_id_is_set_aside(other: dict[str, Any], tmp_path: Path) -> None:
    first = dataset(tmp_path / "1", {"ann": [slate(1, 5, ["a", "b"])]}, items=catalog("ab"))
    second = dataset(tmp_path / "2", {"ann": [other]}, items=catalog("ab"))
    merged, account = merge(first, second, tmp_path / "both")
    assert (account.added, account.duplicates, account.set_aside) == (0, 0, 1)
    assert rows_of(merged) == rows_of(first)
    assert "1 event set aside: their ids are those of another user's events, of other slates" in account.sentences()[1]


def plays(*plays: tuple[int, str, int]) -> list[dict[str, Any]]:
    return [{"id": number, "time": time, "items": [item], "policy": 0} for number, item, time in plays]


def test_rows_that_are_the_same_count_as_often_as_they_are_there(tmp_path: Path) -> None:
    options: dict[str, Any] = {"items": catalog("ab"), "kind": "uses", "policies": [""]}
    once = dataset(tmp_path / "1", {"ann": plays((0, "a", 1))}, **options)
    thrice = dataset(tmp_path / "2", {"ann": plays((0, "a", 1), (1, "a", 1), (2, "a", 1))}, **options)
    merged, account = merge(once, thrice, tmp_path / "both")
    assert (account.added, account.duplicates, merged.interactions.num_events) == (2, 1, 3)
    _, account = merge(merged, thrice, tmp_path / "both")
    assert (account.added, account.duplicates) == (0, 3)


def test_without_a_clock_the_later_log_comes_after_the_first(tmp_path: Path) -> None:
    options: dict[str, Any] = {"items": catalog("abc"), "kind": "uses", "policies": [""], "clock": False}
    first = dataset(tmp_path / "1", {"ann": plays((0, "a", 0), (1, "b", 1_000_000))}, **options)
    # the same rows at other places are the same
    second = dataset(tmp_path / "2", {"ann": plays((0, "c", 0), (1, "b", 1_000_000), (2, "a", 2_000_000))}, **options)
    merged, account = merge(first, second, tmp_path / "both")
    assert (account.added, account.duplicates) == (1, 2)
    assert [(time, shown[0][0]) for time, _, _, shown in rows_of(merged)["ann"]] == [
        (0, "a"),
        (1_000_000, "b"),
        (2_000_000, "c"),
    ]
    assert merged.interactions.used_time.tolist() == [0, 1_000_000, 2_000_000]
