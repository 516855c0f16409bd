"""Peers in virtual environments of their own: they pin old versions of everything."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PEERS = Path(__file__).parent / ".peers"


def environment(name: str, *, alone: Sequence[str], others: Sequence[str]) -> Path:
    """The interpreter of a peer's environment, built on the first call.

    Args:
        name: of the environment.
        alone: requirements that are installed without their dependencies.
        others: requirements with theirs.

    Raises:
        subprocess.CalledProcessError: the registry does not have one of them.
    """
    folder = PEERS / name
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.is_file():
        print(f"building the peer's environment in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        for requirements in (["--no-deps", *alone], list(others)):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True, stdout=sys.stderr)
        ready.touch()
    return python


class Peer:
    """A process that runs a piece of work on demand: a line in, its seconds out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, line: str) -> list[float]:
        """Send a line and read the numbers of the answer.

        Raises:
            RuntimeError: the peer has stopped.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer stopped at: {line}")
        return [float(number) for number in answer.split()]


@contextmanager
def running(python: Path, script: str) -> Iterator[Peer]:
    """A peer for as long as it is needed; what it says to stderr is not shown."""
    process = subprocess.Popen(
        [python, "-W", "ignore", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.wait()
