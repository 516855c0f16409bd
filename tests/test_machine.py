"""What is said of the machine and of the source tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slatewise import machine


def test_the_facts_are_those_of_this_machine() -> None:
    facts = machine.facts()
    assert 1 <= facts.cores <= (os.cpu_count() or 1)
    assert facts.memory is None or facts.memory > 1 << 28
    assert facts.memory_free is None or 0 < facts.memory_free <= (facts.memory or 0)
    assert facts.threads == torch.get_num_threads()
    assert facts.instructions.split(", ")[0] == torch.backends.cpu.get_cpu_capability()
    assert (facts.torch, facts.python) == (torch.__version__, ".".join(map(str, sys.version_info[:3])))
    assert facts.cpu
    assert facts.arithmetic


@pytest.mark.skipif(sys.platform != "linux", reason="groups of processes are a thing of Linux")
@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 64), ("50000 100000", 1), ("250000 100000", 3)])
def test_the_limits_of_a_container_count(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"cpu.max": quota, "memory.max": str(1 << 28), "memory.current": str(1 << 27)}.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(machine, "_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    facts = machine.facts()
    assert facts.cores == cores
    assert facts.memory == 1 << 28
    assert facts.memory_free == 1 << 27


def test_a_commit_is_named_only_where_this_source_is_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    copy = tmp_path / "errors.py"
    shutil.copy(Path(machine.__file__).with_name("errors.py"), copy)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.commit() == ""
    git("init", "--quiet")
    (tmp_path / "theirs").touch()
    git("add", "theirs")
    git("commit", "--quiet", "--message", "theirs")
    assert machine.commit() == ""
    git("add", "errors.py")
    git("commit", "--quiet", "--message", "ours")
    assert machine.commit() == git("rev-parse", "--short=12", "HEAD")
    copy.write_text("# changed\n")
    assert re.fullmatch(r"[0-9a-f]{12}\+", machine.commit())
