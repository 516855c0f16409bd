"""docs/guides/evaluation.md: every log printed there counts as it says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slatewise import artifact, evaluation
from slatewise.config.run import RunConfig
from slatewise.data import Options, import_path, splits
from slatewise.evaluation.relevance import held_out_items, seen_items
from slatewise.training.loop import train

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "evaluation.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
WITHOUT_TIMES = "No clock"


@dataclass(frozen=True)
class Example:
    """A log of the page, settings, and the two tables that belong to them."""

    title: str
    kind: str
    """csv, or json for a service's log."""
    log: str
    settings: dict[str, Any]
    users: list[dict[str, str]]
    metrics: list[dict[str, str]]


def rows(table: str) -> list[dict[str, str]]:
    """Rows of a Markdown table by the names of its columns."""
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().split("\n"))
    return [dict(zip(head, line, strict=True)) for line in lines]


def examples() -> list[Example]:
    """Every log of the page with every settings that follow it."""
    result = []
    for section in GUIDE.read_text("utf-8").partition("## By hand")[2].split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        (kind, log), *settings = BLOCK.findall(body)
        tables = [rows(table) for table in TABLE.findall(body)]
        assert len(tables) == 2 * len(settings), title
        for number, (_, text) in enumerate(settings):
            users, metrics = tables[2 * number : 2 * number + 2]
            result.append(Example(title, kind, log, tomllib.loads(text), users, metrics))
    return result


def test_the_page_has_every_kind_of_log() -> None:
    assert len({example.title for example in examples()}) == 7


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_what_counts_is_what_the_guide_says(example: Example, tmp_path: Path) -> None:
    file = tmp_path / ("log.csv" if example.kind == "csv" else "events.jsonl")
    file.write_text(example.log, encoding="utf-8")
    data = import_path(file, tmp_path / "data", Options(time=example.title != WITHOUT_TIMES))
    k = example.settings["evaluate"]["k"][0]
    tables = {
        "data": {"path": str(data.path), **example.settings["data"]},
        "method": {"name": "popularity"},
        "train": {"select": f"coverage@{k}"},
        "evaluate": example.settings["evaluate"],
    }
    config = RunConfig.from_tables(tables)
    train(config, tmp_path / "run")
    policy = artifact.load(tmp_path / "run" / "artifact").policy
    assert config.data is not None
    split = splits.split_log(config.data, data.interactions, clock=data.clock)
    part, log = split.test, split.test.interactions
    names = dict(enumerate(data.catalog.vocabulary.names.to_pylist(), start=2))

    ranking = evaluation.rank(policy, part, config.evaluate)
    assert [data.users.name(user) for user in ranking.user.tolist()] == [row["user"] for row in example.users]
    for place, (user, row) in enumerate(zip(ranking.user.numpy(), example.users, strict=True)):
        one, first, last = np.array([user]), part.first[[user]], part.last[[user]]
        held_out = held_out_items(log, one, first, last)
        sets = {
            "history": seen_items(log, one, first)[1],
            "used there": held_out.item,
            "relevant": held_out.relevant(config.evaluate).item,
        }
        for column, items in sets.items():
            assert {names[item] for item in items.tolist()} == set(filter(None, row[column].split(", "))), (row, column)
        assert ", ".join(names[item] for item in ranking.items[place].tolist()) == row["list"]
        alone = ranking.relevance.rows(ranking.user.new_tensor([place])).summary(config.evaluate)
        reasons = {"used nothing": alone.used_nothing, "used only what they had used before": alone.only_repeats}
        assert [reason for reason, number in reasons.items() if number] == list(filter(None, [row["left out"]]))

    result = evaluation.evaluate(policy, data, part, config.evaluate, trained_on=split.train, off_policy=False)
    measured = {metric.name: metric for metric in result.metrics}
    for row in example.metrics:
        metric = measured[row["metric"]]
        assert metric.value == pytest.approx(float(Fraction(row["value"]))), row
        assert (metric.users, metric.left_out) == (int(row["users"]), int(row["left out"])), row
