"""Commands in this very process, as `slatewise` runs them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slatewise.cli import main
from slatewise.config.run import RunConfig
from slatewise.data.simulated import prepare_simulated
from slatewise.training.loop import train


@dataclass(frozen=True, kw_only=True)
class Said:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON object."""
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def slatewise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command: slatewise("doctor", "--json")."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["slatewise", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Said(code=code, out=written.out, err=written.err)

    return run


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Small runs on one simulated log."""

    data: Path
    counted: Path
    learned: Path
    corrected: Path


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    prepare_simulated(folder / "data", users=60, items=40, events_per_user=12, topics=4)
    small = {"encoder": {"name": "gru", "width": 8, "item_width": 8}, "train": {"epochs": 2, "log_every": 1}}
    shared = {"data": {"path": str(folder / "data")}, "evaluate": {"k": [10], "liked_at_least": 4.0}}
    own: dict[str, dict[str, Any]] = {
        "counted": {"method": {"name": "popularity"}},
        "learned": {"method": {"name": "cloning"}, **small},
        "corrected": {"method": {"name": "reinforce", "slate_size": 5, "reward_at_least": 4.0}, **small},
    }
    for name, tables in own.items():
        train(RunConfig.from_tables({**shared, **tables}), folder / "runs" / name)
    return folder


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Trained:
    """The runs, each test with its own copy: nobody judged them yet."""
    shutil.copytree(_trained / "runs", tmp_path / "runs")
    names = ("counted", "learned", "corrected")
    return Trained(data=_trained / "data", **{name: tmp_path / "runs" / name for name in names})
