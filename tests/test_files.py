from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slatewise.errors import InputError, SlatewiseError, input_error
from slatewise.files import atomic_file, atomic_folder, exchange, sha256


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


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names")


@on_linux
def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange(tmp_path / "one", tmp_path / "two")
    assert (names(tmp_path / "one"), names(tmp_path / "two")) == (["two"], ["one"])
    with pytest.raises(FileNotFoundError, match="three"):
        exchange(tmp_path / "one", tmp_path / "three")


def replace_folder(target: Path) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "new").touch()


@on_linux
def test_a_folder_is_there_at_every_moment_while_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    replace_folder(target)
    (target / "new").rename(target / "old")
    seen: list[list[str]] = []

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("os.rename", "ctypes.dlsym", "shutil.rmtree", "os.rmdir", "os.remove"):
            seen.append(names(target))

    watching = True
    sys.addaudithook(audit)
    try:
        replace_folder(target)
    finally:
        watching = False  # a hook cannot be taken away again
    assert ["old"] in seen
    assert ["new"] in seen
    assert all(content in (["old"], ["new"]) for content in seen)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL])
def test_where_names_cannot_be_exchanged_the_folder_is_replaced_in_two_steps(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(first: Path, second: Path) -> None:
        raise OSError(number, "cannot")

    monkeypatch.setattr("slatewise.files.exchange", fail)
    target = tmp_path / "folder"
    replace_folder(target)
    (target / "new").rename(target / "old")
    rename = os.rename

    def fail_to_move_the_new_one(source: Path, destination: Path) -> None:
        if source.suffix == ".partial":
            raise PermissionError(destination)
        rename(source, destination)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail_to_move_the_new_one)
        with pytest.raises(PermissionError):
            replace_folder(target)
    assert (names(tmp_path), names(target)) == (["folder"], ["old"])
    target.rename(tmp_path / ".folder.x.old")  # a kill between the two steps
    with pytest.raises(KeyError), atomic_folder(target):
        raise KeyError(names(target)[0])
    assert (names(tmp_path), names(target)) == (["folder"], ["old"])
    replace_folder(target)
    assert (names(tmp_path), names(target)) == (["folder"], ["new"])


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
