from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from slatewise.errors import InputError
from slatewise.training.checkpoint import Checkpoint, Progress, read, write

STATE = Checkpoint(
    progress=Progress(epoch=1, step_in_epoch=2, step=12, best=0.25, best_epoch=0, seconds=1.5, interactions=99),
    learner={"policy.weight": torch.tensor([1.0, 2.0]), "generator": torch.arange(3, dtype=torch.uint8)},
    best={"weight": torch.tensor([0.5])},
)


def line(step: int, epoch: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "epoch": epoch, **more}


def steps(folder: Path) -> list[tuple[int, int, bool]]:
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [(row["step"], row["epoch"], "valid" in row) for row in rows]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write(tmp_path, STATE, [line(12, 1)])
    found = read(tmp_path)
    assert found is not None
    assert found.progress == STATE.progress
    for ours, theirs in ((found.learner, STATE.learner), (found.best, STATE.best)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


def test_one_memory_under_two_names_and_what_was_never_validated(tmp_path: Path) -> None:
    shared = torch.ones(2)
    bare = Checkpoint(progress=Progress(), learner={"one": shared, "other": shared}, best={})
    write(tmp_path, bare, [])
    found = read(tmp_path)
    assert found is not None
    assert (found.progress.best, found.best) == (float("-inf"), {})
    assert torch.equal(found.learner["one"], found.learner["other"])


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    learner = {
        "half": torch.tensor([0.5], dtype=torch.bfloat16),
        "none": torch.zeros(0),
        "one": torch.tensor(3.0),
        "true": torch.tensor([True]),
        **STATE.learner,
    }
    write(tmp_path, replace(STATE, learner=learner), [])
    file = tmp_path / "checkpoint"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    state = read(tmp_path)
    assert state is not None
    unnoticed = []
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 16
        file.write_bytes(changed)
        with suppress(InputError):
            other = read(tmp_path)
            assert other is not None
            assert other.progress == state.progress
            assert all(torch.equal(other.learner[name], state.learner[name]) for name in state.learner)
            unnoticed.append(place)
    # in the header alone: its padding, and the name under which the checksum stands
    assert all(place < header for place in unnoticed)
    assert len(unnoticed) < 30
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{file}: its checksum does not match: .*--overwrite"):
        read(tmp_path)


def test_a_checkpoint_of_before_the_checksum_is_read(tmp_path: Path) -> None:
    write(tmp_path, STATE, [])
    file = tmp_path / "checkpoint"
    with safe_open(file, framework="pt") as opened:
        progress = opened.metadata()["progress"]
    save_file(load_file(file), file, metadata={"progress": progress})
    state = read(tmp_path)
    assert state is not None
    assert state.progress == STATE.progress


def test_lines_of_a_lost_checkpoint_are_cut_off_again(tmp_path: Path) -> None:
    kept = [line(9, 0), line(10, 0), line(10, 0, valid={}), line(11, 1), line(12, 1)]
    write(tmp_path, STATE, kept)
    # a kill between the lines and the checkpoint that they belong to, in the middle of a line
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for lost in (line(13, 1), line(20, 1), line(20, 1, valid={}), line(21, 2)):
            file.write(json.dumps(lost) + "\n")
        file.write('{"step": 22, "ep')
    assert read(tmp_path) is not None
    assert steps(tmp_path) == [(9, 0, False), (10, 0, False), (10, 0, True), (11, 1, False), (12, 1, False)]
    # reading again takes nothing more away, and what follows is appended to whole lines
    read(tmp_path)
    write(tmp_path, replace(STATE, progress=replace(STATE.progress, step=13)), [line(13, 1)])
    assert steps(tmp_path)[-2:] == [(12, 1, False), (13, 1, False)]


def test_an_epoch_that_was_not_closed_validates_again(tmp_path: Path) -> None:
    # all steps of epoch 1 are done, its validation is written, its checkpoint is not
    write(tmp_path, replace(STATE, progress=replace(STATE.progress, step=20)), [line(20, 1)])
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line(20, 1, valid={"ndcg@5": 0.5})) + "\n")
    read(tmp_path)
    assert steps(tmp_path) == [(20, 1, False)]


def test_lines_before_the_first_checkpoint_start_anew(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0}\n', encoding="utf-8")
    assert read(tmp_path) is None
    assert not (tmp_path / "metrics.jsonl").exists()
