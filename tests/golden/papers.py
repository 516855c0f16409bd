"""Rows and checks of `slatewise reproduce`: the short form of every paper, and MovieLens in full."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.golden.methods import Trainings

PAPERS = ("youtube", "tpgr", "large-actions", "fcpo", "wolpertinger", "slateq", "movielens")
FULL = ("movielens",)
ON_MOVIELENS = ("tpgr", "fcpo", "movielens")
TIMES = (
    # processor time of training: tpgr, wolpertinger, large-actions
    r"\bseconds\b",
    r"\bCPU (s|ms)\b",
    # time of one decision: fcpo, wolpertinger, large-actions
    r"\bms a batch\b",
    r"\btimes as long by single picks\b",
    r"\btimes as fast as full search\b",
    r"\btimes the raw product\b",
    # growth of such times with the number of items: large-actions
    r"\bgrowth of a decision's time\b",
    # ratio of two training times: slateq
    r"\btimes SARSA-TS's\b",
)
"""Rows whose metric fits one of these are measured by a clock and differ from run to run."""
TIMED_CHECKS = (
    r"\btime of a decision\b",
    r"\btimes as fast\b",
    r"\bin one pass\b",
    r"\bin at most a minute\b",
)
"""The same of checks, by their name; for these not even whether they hold is kept."""


def record(paper: str, trainings: Trainings) -> Iterator[tuple[str, Any]]:
    """Rows (published, ours, low, high) and checks (holds, figure) of a paper, in the order of its table."""
    commands = trainings.commands
    if paper in ON_MOVIELENS:
        commands.run("data", "fetch", "ml-100k", "--accept-license", "--out", "data/ml-100k")
    answer = commands.work / "reproduce" / f"{paper}.json"
    form = () if paper in FULL else ("--quick",)
    commands.run("reproduce", paper, *form, "--json", answer, "--out", f"pages/{paper}", "--cache", "cells")
    results = json.loads(answer.read_text(encoding="utf-8"))
    for row in results["rows"]:
        if not _fits(row["metric"], TIMES):
            yield f"{row['name']} | {row['metric']}", [row[key] for key in ("published", "ours", "low", "high")]
    for check in results["checks"]:
        if not _fits(check["name"], TIMED_CHECKS):
            yield f"check | {check['name']}", [check["holds"], check["figure"]]


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(pattern, text) for pattern in patterns)
