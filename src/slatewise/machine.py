"""The machine and the commit that a measurement depends on: processor, cores, memory, torch's libraries."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine as this process may use it; None or "" where the system gives no value."""

    system: str
    cpu: str
    cores: int
    """Cores that this process may use, with its affinity and the container's quota."""
    memory: int | None
    """Bytes that this process may use, with the container's limit."""
    memory_free: int | None
    load: float | None
    """Runnable processes, mean of the last minute."""
    python: str
    torch: str = ""
    threads: int | None = None
    """Threads of one torch operation."""
    instructions: str = ""
    """The widest instruction sets that torch uses: AVX512, bf16, AMX."""
    arithmetic: str = ""
    """Libraries behind torch's matrix products."""


def facts() -> Machine:
    """This machine's current state. Imports torch; its fields stay empty where it is not installed."""
    memory, free = _memory()
    machine = Machine(
        system=platform.platform(),
        cpu=_cpu(),
        cores=_cores(),
        memory=memory,
        memory_free=free,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        python=platform.python_version(),
    )
    try:
        import torch
    except (ImportError, OSError):  # OSError: a library that it needs does not load
        return machine
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    libraries = [blas[1] if blas else "", "oneDNN" if torch.backends.mkldnn.is_available() else ""]  # type: ignore[no-untyped-call]
    # torch has no public function for these two
    queries = {"bf16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
    kinds = [torch.backends.cpu.get_cpu_capability()]
    kinds += [name for name, query in queries.items() if getattr(torch.cpu, query, lambda: False)()]
    return replace(
        machine,
        torch=str(torch.__version__),
        threads=torch.get_num_threads(),
        instructions=", ".join(kinds),
        arithmetic=", ".join(name for name in libraries if name),
    )


def commit() -> str:
    """Commit of the source tree, followed by "+" if files differ; "" outside of a repository."""
    folder = Path(__file__).parent
    # an installed copy may lie inside a third-party repository: check that this file belongs to it
    for command in (
        ["ls-files", "--error-unmatch", "errors.py"],
        ["describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12"],
    ):
        try:
            answer = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
    return answer.stdout.strip()


def _cpu() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(_GROUP / "cpu.max").partition(" ")
    return min(usable, max(1, math.ceil(int(quota) / int(period)))) if quota.isdigit() else usable


def _memory() -> tuple[int | None, int | None]:
    """Total and available memory, in bytes."""
    matches = re.findall(r"^(\w+):\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    lines: dict[str, str] = dict(matches)
    if "MemTotal" not in lines:
        names = getattr(os, "sysconf_names", {})
        supported = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names)
        return (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if supported else None), None
    total, free = int(lines["MemTotal"]) << 10, int(lines.get("MemAvailable", lines["MemTotal"])) << 10
    limit, used = _read(_GROUP / "memory.max").strip(), _read(_GROUP / "memory.current").strip()
    if limit.isdigit() and int(limit) < total:
        total = int(limit)
        free = min(free, max(0, total - int(used))) if used.isdigit() else min(free, total)
    return total, free


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
