"""Parts of the golden values, written to values/PART.json or compared with what lies there, bit for bit."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.golden import methods, papers, service, worlds
from tests.golden.commands import Commands
from tests.golden.comparison import differences, name_changes

VALUES = Path(__file__).parent / "values"
RENAMED = Path(__file__).parent / "renamed.json"
Part = Callable[[methods.Trainings], Iterable[tuple[str, Any]]]


def parts() -> dict[str, Part]:
    """Every part by name; the quick ones first."""
    all_parts: dict[str, Part] = {"methods": methods.record, "service": service.record, "worlds": worlds.record}
    return all_parts | {f"reproduce-{paper}": partial(papers.record, paper) for paper in papers.PAPERS}


def main() -> int:
    """Record or compare; 1 where something differs."""
    options = _options()
    chosen = options.only or list(parts())
    place = tempfile.TemporaryDirectory() if options.work is None else nullcontext(options.work)
    differing = 0
    with place as work:
        folder = Path(work).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        trainings = methods.Trainings(commands=Commands(work=folder))
        for name in chosen:
            start = time.monotonic()
            entries = list(named_once(parts()[name](trainings)))
            words = f"{name}: {len(entries)} values, {time.monotonic() - start:.0f} s"
            if not options.compare:
                failures, _ = split_failures(entries)
                if failures:
                    raise SystemExit("\n".join(f"{case} failed: {message}" for case, message in failures.items()))
                _write(options.out / f"{name}.json", entries)
            else:
                recorded = json.loads((options.out / f"{name}.json").read_text(encoding="utf-8"))
                names = name_changes(json.loads(RENAMED.read_text(encoding="utf-8")) if RENAMED.is_file() else {})
                failures, entries = split_failures(entries)
                failed = tuple(f"{case} | " for case in failures)
                old = [(key, value) for key, value in recorded["entries"] if not key.startswith(failed)]
                lines, notes = differences(old, entries, names)
                lines += [f"{case} failed: {message}" for case, message in failures.items()]
                for line in [*_machines(recorded["machine"]), *notes, *lines]:
                    print(f"{name}: {line}", flush=True)
                differing += len(lines)
                words += f", {len(lines)} differences, {len(notes)} only in name or new"
            print(words, flush=True)
    return 1 if differing else 0


def split_failures(entries: Iterable[tuple[str, Any]]) -> tuple[dict[str, str], list[tuple[str, Any]]]:
    """What failed, with its message by its case; and everything else."""
    values, failures = [], {}
    for name, value in entries:
        case, _, what = name.rpartition(" | ")
        if what == methods.FAILED:
            failures[case] = str(value)
        else:
            values.append((name, value))
    return failures, values


def named_once(entries: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Entries whose names are numbered where they repeat; values as JSON gives them back."""
    times: Counter[str] = Counter()
    for name, value in entries:
        times[name] += 1
        yield (name if times[name] == 1 else f"{name} #{times[name]}"), json.loads(json.dumps(value))


def _write(path: Path, entries: list[tuple[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    machine = json.dumps(machine_facts(), ensure_ascii=False)
    path.write_text(f'{{"machine": {machine},\n"entries": [\n{lines}\n]}}\n', encoding="utf-8")


def machine_facts() -> dict[str, str]:
    """What the last bits of a sum depend on."""
    import torch  # late: only for this

    fields = {"model name": platform.processor(), "cpu family": "", "model": "", "stepping": ""}
    facts = Path("/proc/cpuinfo")
    for line in reversed(facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []):
        key, _, value = line.partition(":")
        if key.strip() in fields:
            fields[key.strip()] = value.strip()
    processor = ", ".join(f"{key} {value}" for key, value in fields.items() if value)
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "scipy", "faiss-cpu", "polars")}
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **versions,
    }


def _machines(recorded: dict[str, str]) -> Iterator[str]:
    present = machine_facts()
    for key in sorted({*recorded, *present}):
        if recorded.get(key) != present.get(key):
            yield f"recorded with {key} {recorded.get(key)}, now {present.get(key)}: last bits may differ"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compare", action="store_true", help="compare with what is recorded; exit code 1 = differs")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=list(parts()), help=", ".join(parts()))
    parser.add_argument("--out", type=Path, default=VALUES, help="folder of the values")
    parser.add_argument("--work", type=Path, help="folder of data, runs and computed cells; default a temporary one")
    return parser.parse_args()
