import ctypes
import subprocess
import sys

import pytest

from slatewise.memory import keep_freed_memory

FAULTS = """
import resource
import torch
from slatewise.memory import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
def step():
    blocks = [torch.ones(4 << 20) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _is_glibc() -> bool:
    try:
        return hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    except (OSError, TypeError):
        return False


@pytest.mark.skipif(not _is_glibc(), reason="the C library is not glibc")
def test_a_step_that_frees_and_takes_blocks_again_maps_no_pages_anew() -> None:
    answer = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    # the first of the five may still have to widen the heap, depending on what lies in it
    assert int(answer.stdout) < 20_480, "five steps of four 16 MB blocks are 81,920 pages"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False
