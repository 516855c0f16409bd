from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slatewise.errors import InputError, SlatewiseError, input_error
from slatewise.files import atomic_file, atomic_folder, sha256


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(path: Path) -> None:
    path.write_text("half", encoding="utf-8")
    raise KeyError(path.name)


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from slatewise.files import atomic_folder

with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("one", encoding="utf-8")
        assert not target.exists()
    assert target.read_text("utf-8") == "one"
    with atomic_file(target) as temporary:
        temporary.write_text("two", encoding="utf-8")
        assert target.read_text("utf-8") == "one", "a reader sees the old one until the new one is whole"
    assert target.read_text("utf-8") == "two"
    assert names(target.parent) == ["file.txt"]


def test_a_file_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(KeyError), atomic_file(target) as temporary:
        fail_half_way(temporary)
    assert (names(tmp_path), target.read_text("utf-8")) == (["file.txt"], "old")


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for number in ("one", "two"):
        with atomic_folder(target) as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / number).write_text(number, encoding="utf-8")
    assert names(target / "inner") == ["two"]
    assert names(tmp_path) == ["folder"]


def test_a_folder_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(KeyError), atomic_folder(target) as temporary:
        fail_half_way(temporary / "file")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["folder", "[odd] *name?"])
def test_what_a_killed_writer_left_is_removed_by_the_next(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    assert not target.exists()
    (tmp_path / ".other.x.partial").mkdir()  # of another folder, which is somebody else's
    with atomic_folder(target) as temporary:
        (temporary / "file").write_text("whole", encoding="utf-8")
    assert names(tmp_path) == sorted([".other.x.partial", name])
    assert (target / "file").read_text("utf-8") == "whole"


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SlatewiseError, match=r"file cannot be created: .*\. Use another folder\."):
        atomic_file(tmp_path / "file" / "inner").__enter__()


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_errors_name_the_place_first_and_the_way_out_last() -> None:
    error = input_error("no time", file="log.csv", row=48213, column="timestamp", advice="--time-format sets another.")
    assert str(error) == 'log.csv, line 48,213, column "timestamp": no time. --time-format sets another.'
    assert str(input_error("no file")) == "no file."
    assert isinstance(error, InputError)
