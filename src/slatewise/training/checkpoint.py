"""The state of a run on disk: one file, renamed into place; the log lines that belong to it.

Lines are written before the checkpoint, so on resuming those beyond it are cut off again: nothing twice, nothing lost.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from slatewise.errors import input_error
from slatewise.files import atomic_file

LEAST_PAUSE = 10.0
"""Seconds between checkpoints by time, at least."""
MOST_SAVING = 0.05
"""Largest share of the time that checkpoints by time take."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the loop stands; what is in a checkpoint beside the tensors."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = float("-inf")
    best_epoch: int = -1
    """Epoch that validated best; −1 before the first validation."""
    best_phase: str = ""
    """Phase in which that epoch ended; "" where the learner has no phases."""
    phase: str = ""
    """Phase of the last update."""
    early_epoch: int = -1
    """Last epoch with an update before the last phase; patience counts from there."""
    seconds: float = 0.0
    """Spent in updates."""
    interactions: int = 0
    """Events learned from so far, counted once per epoch."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything needed to go on."""

    progress: Progress
    learner: dict[str, Tensor]
    best: dict[str, Tensor]
    """Weights of the policy that validated best so far; empty before the first validation."""


def write(folder: Path, checkpoint: Checkpoint, lines: list[dict[str, Any]]) -> None:
    """Append lines to metrics.jsonl, then put the checkpoint in the place of the last one."""
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    tensors = {f"learner.{name}": value.detach().contiguous() for name, value in checkpoint.learner.items()}
    tensors |= {f"best.{name}": value.detach().contiguous() for name, value in checkpoint.best.items()}
    tensors = _with_own_memory(tensors)
    progress = json.dumps(asdict(checkpoint.progress))
    with atomic_file(folder / "checkpoint") as temporary:
        save_file(tensors, temporary, metadata={"progress": progress, "crc32": _checksum(progress, tensors)})


def _with_own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which no two share memory, which safetensors refuses; only those that do are copied."""
    owners: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage()
        is_shared = memory.data_ptr() in owners or memory.nbytes() != tensor.nbytes
        owners.add(memory.data_ptr())
        owned[name] = tensor.clone() if is_shared else tensor
    return owned


def pause(save_seconds: float) -> float:
    """Seconds until the next checkpoint by time, after one that took so many."""
    return max(LEAST_PAUSE, save_seconds * (1 / MOST_SAVING - 1))


def read(folder: Path) -> Checkpoint | None:
    """The last checkpoint; metrics.jsonl is cut back to it. None before the first one.

    Raises:
        InputError: the file is no checkpoint, or has changed since it was written.
    """
    state = read_state(folder)
    if state is None:
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        return None
    _cut_back(folder / "metrics.jsonl", state.progress)
    return state


def read_state(folder: Path) -> Checkpoint | None:
    """The last checkpoint; None before the first one. Nothing is changed.

    Raises:
        InputError: the file is no checkpoint, or has changed since it was written.
    """
    path = folder / "checkpoint"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            progress = Progress(**json.loads(metadata["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise input_error(f"no checkpoint: {error}", file=path, advice="Start anew with --overwrite.") from error
    # checkpoints of earlier versions have no checksum
    if metadata.get("crc32", "") not in ("", _checksum(metadata["progress"], tensors)):
        raise input_error(
            "its checksum does not match: bytes of it have changed since it was written",
            file=path,
            advice="Check the disk, and start anew with --overwrite.",
        )
    return Checkpoint(progress=progress, learner=_under("learner.", tensors), best=_under("best.", tensors))


def read_progress(folder: Path) -> Progress | None:
    """Where the last checkpoint stands, without its tensors; None before the first one.

    Raises:
        InputError: the file is no checkpoint.
    """
    path = folder / "checkpoint"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return Progress(**json.loads(file.metadata()["progress"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise input_error(f"no checkpoint: {error}", file=path, advice="Start anew with --overwrite.") from error


def _checksum(progress: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of all that a checkpoint holds, with the names, types and shapes of the tensors."""
    value = zlib.crc32(progress.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(), value)
        value = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _cut_back(metrics: Path, progress: Progress) -> None:
    lines = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # the line that a kill cut short
            continue
        validated = "valid" in row
        if row["epoch"] < progress.epoch or (not validated and row["step"] <= progress.step):
            lines.append(line + "\n")
    with atomic_file(metrics) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
