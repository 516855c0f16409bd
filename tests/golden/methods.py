"""Weights, losses and figures after a short training of every method."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from safetensors.numpy import load_file
from tests.golden.commands import Commands, numbers
from tests.golden.logs import write_logs

CASES = Path(__file__).parent / "cases.toml"
TIMES = ("seconds", "interactions_per_second")
FAILED = "failed"


@dataclass(kw_only=True)
class Trainings:
    """Cases by name, each trained once on the way."""

    commands: Commands
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    logs: set[str] = field(default_factory=set)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What `train` answered."""

    def __post_init__(self) -> None:
        tables = tomllib.loads(CASES.read_text(encoding="utf-8"))
        self.cases = {case["name"]: case for case in tables.pop("case")}
        self.tables = tables

    def prepare(self) -> dict[str, Any]:
        """Write and import the logs; counts of events, users and items."""
        counts = {}
        for name, place in write_logs(self.commands.work / "logs").items():
            self.logs.add(name)
            counts[name] = self.commands.answer("data", "import", place, "--out", self._data(name))["counts"]
        return counts

    def folder(self, name: str) -> Path:
        """Run folder of a case."""
        letters = "".join(letter if letter.isalnum() else "-" for letter in name)
        return self.commands.work / "runs" / letters

    def train(self, name: str) -> dict[str, Any]:
        """Train a case if this recording has not yet; what the command answered."""
        if not self.logs:
            self.prepare()
        if name not in self.runs:
            case, folder = self.cases[name], self.folder(name)
            tables: dict[str, Any] = {key: {**table, **case.get(key, {})} for key, table in self.tables.items()}
            tables["data"]["path"] = str(self._data(case["log"]))
            tables |= {key: case[key] for key in ("method", "encoder") if key in case}
            config = folder.with_suffix(".toml")
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_text(tomli_w.dumps(tables), encoding="utf-8")
            self.runs[name] = self.commands.answer("train", config, "--out", folder, "--overwrite")
        return self.runs[name]

    def _data(self, log: str) -> Path:
        return self.commands.work / "data" / log


def record(trainings: Trainings) -> Iterator[tuple[str, Any]]:
    """Counts of the logs; of every case the progress, losses, weights and figures."""
    yield from numbers(trainings.prepare()).items()
    with ThreadPoolExecutor(2) as pool:
        names = [name for name, case in trainings.cases.items() if case.get("with_the_others", True)]
        # all of them first: a case may be judged by another one
        list(pool.map(lambda name: list(or_failure(name, _answer(trainings, name))), names))
        parts = list(pool.map(lambda name: list(or_failure(name, _case(trainings, name))), names))
    for part in parts:
        yield from part


def or_failure(name: str, entries: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values of a case or, where a command fails, that alone: the other cases are compared all the same."""
    try:
        yield from list(entries)
    except RuntimeError as error:
        yield f"{name} | {FAILED}", str(error)


def _answer(trainings: Trainings, name: str) -> Iterator[tuple[str, Any]]:
    yield from trainings.train(name).items()


def _case(trainings: Trainings, name: str) -> Iterator[tuple[str, Any]]:
    case, folder, commands = trainings.cases[name], trainings.folder(name), trainings.commands
    for key, value in numbers(trainings.train(name), without=TIMES).items():
        yield f"{name} | {key}", value
    for at, line in enumerate((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        for key, value in numbers(json.loads(line), without=TIMES).items():
            yield f"{name} | line {at} {key}", value
    for key, value in weights(folder / "artifact" / "weights.safetensors").items():
        yield f"{name} | {key}", value
    if case.get("judged", True):
        options: tuple[str | Path, ...] = ()
        if "behaviour" in case:
            options = ("--behaviour", trainings.folder(case["behaviour"]), "--off-policy")
        elif case.get("off_policy") or case.get("fitted"):
            options = ("--off-policy",)
        for part in ("valid", "test"):
            judged = commands.answer("evaluate", folder, "--part", part, *options)
            for key, value in numbers(judged).items():
                yield f"{name} | {part} {key}", value


def weights(path: Path) -> dict[str, Any]:
    """Digests of tensors that depend neither on their names nor on the order of their values."""
    tensors = load_file(path)
    by_type: dict[str, list[np.ndarray[Any, Any]]] = {}
    for tensor in tensors.values():
        by_type.setdefault(str(tensor.dtype), []).append(tensor.ravel())
    each = sorted(f"{tensor.dtype}, {tensor.size:,} values: {_digest(tensor.ravel())}" for tensor in tensors.values())
    together = {f"all {kind} values": _digest(np.concatenate(parts)) for kind, parts in sorted(by_type.items())}
    return {"tensors": each, **together}


def _digest(values: np.ndarray[Any, Any]) -> str:
    """Of the bit patterns in ascending order, so that −0 and NaN count too."""
    bits = np.sort(values.view(f"u{values.dtype.itemsize}"))
    return hashlib.sha256(bits.tobytes()).hexdigest()[:16]
