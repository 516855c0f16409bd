"""What checksums cost: event logs, prepared data and checkpoints with them, beside the same work without, in turns.

python bench/checksums.py [--json] [--quick] [--records 200000] [--rows 5000000] [--megabytes 256] [--rounds 5]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _run import cpu_ratio, finish, in_turns, medians, parser

# isort: split
import msgspec
import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from slatewise.data import prepare, prepared
from slatewise.data.decisions_and_outcomes import Decision, Outcome, Record, encode
from slatewise.data.event_log import load_events
from slatewise.files import atomic_file
from slatewise.training import checkpoint
from slatewise.training.checkpoint import Checkpoint, Progress


def main() -> None:
    arguments = parser(__doc__, "checksums")
    arguments.add_argument("--records", type=int, default=200_000, help="of the event log")
    arguments.add_argument("--rows", type=int, default=5_000_000, help="of the prepared data set")
    arguments.add_argument("--megabytes", type=int, default=256, help="of the checkpoint")
    options = arguments.parse_args()
    begun = time.monotonic()
    share = 20 if options.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = {
            **log_pairs(folder, options.records // share, options.seed),
            **data_pairs(folder, options.rows // share, options.seed),
            **checkpoint_pairs(folder, options.megabytes // share),
        }
        rows = [measure(what, *works, rounds=options.rounds) for what, works in pairs.items()]
    settings = {"records": options.records, "rows": options.rows, "megabytes": options.megabytes}
    lines = [
        "{name:<24} {cpu_seconds:>7.3f} CPU s, without {without:>7.3f}  × {ratio:.2f}".format(**row) for row in rows
    ]
    finish(options, begun=begun, settings=settings, rows=rows, lines=lines)


Works = tuple[Callable[[], object], Callable[[], object]]
"""With checksums, without."""


def log_pairs(folder: Path, count: int, seed: int) -> dict[str, Works]:
    """Writing and importing a log of decisions and outcomes."""
    rng = np.random.default_rng(seed)
    slates = rng.integers(0, 5000, (count // 2, 10)).astype(str).tolist()
    factors = np.log(rng.random((count // 2, 10), np.float32)).astype(float).tolist()
    records: list[Record] = []
    for number, (slate, logp) in enumerate(zip(slates, factors, strict=True)):
        event = str(10**17 + number)
        records.append(
            Decision(event_id=event, timestamp=number, user_id=str(number % 999), slate=slate, logp=logp, k=10)
        )
        records.append(Outcome(event_id=event, timestamp=number, position=number % 10, type="click", outcome_id="1"))
    encoder = msgspec.json.Encoder()
    sealed, plain = folder / "sealed.jsonl", folder / "plain.jsonl"
    sealed.write_bytes(encode(records))
    plain.write_bytes(encoder.encode_lines(records))
    return {
        "lines of a log, written": (lambda: encode(records), lambda: encoder.encode_lines(records)),
        "log of events, imported": (lambda: load_events(sealed), lambda: load_events(plain)),
    }


def data_pairs(folder: Path, rows: int, seed: int) -> dict[str, Works]:
    """Opening prepared data and reading every column once, as training does."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, rows // 100, rows).astype(str),
            "item_id": rng.integers(0, 20_000, rows).astype(str),
            "timestamp": rng.integers(0, 10**15, rows),
            "reward": rng.integers(1, 6, rows).astype(np.float32),
        }
    )
    path = prepare(frame, out=folder / "data", name="bench", kind="uses").path

    def read(*, verify: bool) -> None:
        log = prepared.load(path, verify=verify).interactions
        for column in prepared.COLUMNS:
            np.asarray(getattr(log, column)).sum()

    return {"prepared data, read": (lambda: read(verify=True), lambda: read(verify=False))}


def checkpoint_pairs(folder: Path, megabytes: int) -> dict[str, Works]:
    """Writing a checkpoint."""
    weights = {"weight": torch.randn(megabytes * 4096, 64)}
    state = Checkpoint(progress=Progress(), learner=weights, best={})

    def write_without() -> None:
        copies = {name: weight.clone().contiguous() for name, weight in weights.items()}
        with atomic_file(folder / "plain") as temporary:
            save_file(copies, temporary)

    return {"checkpoint, written": (lambda: checkpoint.write(folder, state, []), write_without)}


def measure(name: str, work: Callable[[], object], floor: Callable[[], object], *, rounds: int) -> dict[str, Any]:
    taken = in_turns({"with": work, "without": floor}, rounds)
    return {
        "name": name,
        "cpu_seconds": medians(taken["with"]).cpu_seconds,
        "without": medians(taken["without"]).cpu_seconds,
        "ratio": cpu_ratio(taken["with"], taken["without"]),
    }


if __name__ == "__main__":
    main()
