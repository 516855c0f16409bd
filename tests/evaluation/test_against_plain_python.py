"""Popularity and item_knn, from the file of a log to the metrics, against a computation in plain Python.

The split says which events train and which are held out (tests/data/test_splits.py checks that); everything else is
computed here again from the rows of the file, by docs/guides/evaluation.md.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.evaluation.six_logs import LOGS, Event, Log

from slatewise import artifact, evaluation
from slatewise.config import EvaluateConfig, SplitName
from slatewise.config.run import RunConfig
from slatewise.data import import_path, splits
from slatewise.data.prepared import Dataset
from slatewise.log import LogPart
from slatewise.training.loop import train

K = 5
LIKED = 4.0
SHRINK, NEIGHBOURS, TEMPERATURE, WINDOW = 10.0, 100, 0.1, 512  # the defaults of item_knn and its window
NUDGE = 1e-6  # by which popularity orders items of equal similarity


@dataclass(frozen=True)
class Case:
    """A log on disk, imported, and its events of each user, oldest first."""

    log: Log
    dataset: Dataset
    users: Mapping[str, list[Event]]


@pytest.fixture(scope="module", params=sorted(LOGS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    log = LOGS[request.param](folder)
    users: dict[str, list[Event]] = defaultdict(list)
    for event in log.events:
        users[event.user].append(event)
    return Case(log, import_path(log.file, folder / "data", log.options), users)


def part_events(case: Case, part: LogPart, first: Sequence[int], last: Sequence[int]) -> dict[str, list[Event]]:
    """Events of each user between two places of a part, which may have the events in an order of its own."""
    whole, ordered = case.dataset.interactions, part.interactions
    result = {}
    for number, user in enumerate(case.dataset.users.names.to_pylist()):
        start, stop = whole.user_offsets[number : number + 2]
        event_of = dict(zip(whole.event_id[start:stop].tolist(), case.users[user], strict=True))
        result[user] = [
            event_of[name] for name in ordered.event_id[start + first[number] : start + last[number]].tolist()
        ]
    return result


def used(events: Sequence[Event]) -> list[str]:
    return [item for event in events for item, _ in event.uses]


Scores = Callable[[Sequence[Event]], dict[str, float]]


def popularity(taught: Mapping[str, list[Event]], items: Sequence[str]) -> Scores:
    counts = Counter(item for events in taught.values() for item in used(events))
    return lambda history: {item: counts[item] for item in items}


def item_knn(taught: Mapping[str, list[Event]], items: Sequence[str]) -> Scores:
    number = {item: place for place, item in enumerate(items)}
    shares = np.zeros((len(taught), len(items)))
    for row, events in enumerate(taught.values()):
        shares[row, [number[item] for item in used(events)]] = 1
    pairs = shares.T @ shares
    root = np.sqrt(np.diag(pairs))
    similarity = np.where(np.eye(len(items)), 0, pairs / (np.outer(root, root) + SHRINK))
    for row in similarity:
        row[np.argsort(-row.round(9), kind="stable")[NEIGHBOURS:]] = 0

    counts = popularity(taught, items)([])
    popular = np.array([math.log1p(counts[item]) for item in items])
    order = NUDGE * popular / max(1.0, popular.max())  # of items that are equally similar

    def scores(history: Sequence[Event]) -> dict[str, float]:
        window = [number[item] for item in used(history)][-WINDOW:]
        neighbours = similarity[window].sum(axis=0) / TEMPERATURE
        return dict(zip(items, neighbours + order if neighbours.any() else popular, strict=True))

    return scores


def expected_metrics(
    score: Scores,
    taught: Mapping[str, list[Event]],
    histories: Mapping[str, list[Event]],
    held_out: Mapping[str, list[Event]],
    items: Sequence[str],
    *,
    exclude_seen: bool,
) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    shown: Counter[str] = Counter()
    count = Counter(item for events in taught.values() for item in used(events))
    hits_of_all, liked_of_all, any_liked = 0, 0, False
    for user in (user for user, events in held_out.items() if events):
        seen, scores = set(used(histories[user])), score(histories[user])
        allowed = [item for item in items if not (exclude_seen and item in seen)]
        best = sorted(allowed, key=lambda item: -round(scores[item], 9))[:K]  # a stable sort: ties by item number
        shown.update(best)
        if best:
            values["avg_popularity"].append(sum(count[item] for item in best) / len(best))
        rewards: dict[str, float] = {}
        for item, reward in (use for event in held_out[user] for use in event.uses):
            rewards[item] = max(reward, rewards.get(item, -math.inf))
        relevant = {item for item in rewards if not (exclude_seen and item in seen)}
        liked = {item for item in relevant if rewards[item] >= LIKED}
        any_liked = any_liked or bool(liked)
        hits_of_all += len(relevant & set(best))
        liked_of_all += len(liked & set(best))
        for prefix, wanted in (("", relevant), ("liked_", liked)):
            if wanted:
                hits = [item in wanted for item in best] + [False] * (K - len(best))
                at = [place for place, hit in enumerate(hits, start=1) if hit]
                n, ideal = len(at), range(1, min(len(wanted), K) + 1)
                values[f"{prefix}recall"].append(n / len(wanted))
                values[f"{prefix}precision"].append(n / K)
                values[f"{prefix}f1"].append(2 * n / (K + len(wanted)))
                values[f"{prefix}hit"].append(float(n > 0))
                values[f"{prefix}mrr"].append(1 / at[0] if at else 0.0)
                gain = sum(1 / math.log2(place + 1) for place in at)
                values[f"{prefix}ndcg"].append(gain / sum(1 / math.log2(place + 1) for place in ideal))
                values[f"{prefix}map"].append(sum((j + 1) / place for j, place in enumerate(at)) / len(ideal))
    metrics = {f"{name}@{K}": sum(numbers) / len(numbers) for name, numbers in values.items()}
    exposure = sorted(shown[item] for item in items)
    ranks = sum((2 * rank - len(items) - 1) * number for rank, number in enumerate(exposure, start=1))
    metrics[f"coverage@{K}"] = sum(number > 0 for number in exposure) / len(items)
    metrics[f"gini@{K}"] = ranks / (len(items) * sum(exposure))
    metrics[f"liked_share@{K}"] = liked_of_all / hits_of_all if hits_of_all and any_liked else math.nan
    return metrics


@pytest.mark.parametrize("split", get_args(SplitName))
@pytest.mark.parametrize("method", ["popularity", "item_knn"])
def test_metrics_are_those_of_plain_python(case: Case, method: str, split: SplitName, tmp_path: Path) -> None:
    tables = {
        "data": {"path": str(case.dataset.path), "split": split, "valid_share": 0.2, "test_share": 0.3},
        "method": {"name": method},
        "train": {"select": f"recall@{K}"},
        "evaluate": {"k": [K], "liked_at_least": LIKED},
    }
    config = RunConfig.from_tables(tables)
    train(config, tmp_path / "run")
    policy = artifact.load(tmp_path / "run" / "artifact").policy
    assert config.data is not None
    parts = splits.split_log(config.data, case.dataset.interactions, clock=case.dataset.clock)
    items = list(dict.fromkeys(item for event in case.log.events for item in event.shown))  # by first appearance
    nothing = np.zeros_like(parts.train.first)
    taught = part_events(case, parts.train, parts.train.first.tolist(), parts.train.last.tolist())
    score = {"popularity": popularity, "item_knn": item_knn}[method](taught, items)
    for part in (parts.valid, parts.test):
        histories = part_events(case, part, nothing.tolist(), part.first.tolist())
        held_out = part_events(case, part, part.first.tolist(), part.last.tolist())
        for exclude_seen in (True, False):
            settings = EvaluateConfig(k=(K,), liked_at_least=LIKED, exclude_seen=exclude_seen)
            result = evaluation.evaluate(policy, case.dataset, part, settings, trained_on=parts.train, off_policy=False)
            expected = expected_metrics(score, taught, histories, held_out, items, exclude_seen=exclude_seen)
            for metric in result.metrics:
                assert metric.value == pytest.approx(expected.get(metric.name, math.nan), abs=1e-9, nan_ok=True), (
                    metric.name
                )
