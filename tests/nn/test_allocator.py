import ctypes
import subprocess
import sys

import pytest

from slatewise.nn.allocator import keep_freed_memory

FAULTS = """
import resource
import torch
from slatewise.nn.allocator import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
def step():
    blocks = [torch.ones(4 << 20) for _ in range(4)]
for _ in range(3):
    step()
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[2])
"""


def _is_glibc() -> bool:
    try:
        return hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    except (OSError, TypeError):
        return False


@pytest.mark.skipif(not _is_glibc(), reason="the C library is not glibc")
def test_a_step_that_frees_and_takes_blocks_again_maps_no_pages_anew() -> None:
    answer = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    # the median of five steps: one of them may still have to widen the heap, depending on what lies in it
    assert int(answer.stdout) < 200, "a step of four 16 MB blocks is 16,384 pages"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False
