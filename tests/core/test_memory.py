"""Freed memory is used again; the peak and the free memory are measured."""

import mmap
import platform
import subprocess
import sys

import pytest

from interp_refiner.core import forget_peak_memory, free_memory, peak_memory

SCRIPT = """
import resource, torch
from interp_refiner.core import keep_freed_memory
torch.set_num_threads(1)
def faults():
    for _ in range(3):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), keep_freed_memory(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_large_tensors_reuse_pages():
    given_back, done, kept = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True).split()
    assert done == "True"
    assert int(given_back) > 100  # 5 tensors of 64 MiB, freshly mapped (4 KiB or 2 MiB a page)
    assert int(kept) < int(given_back) / 10


@pytest.mark.skipif(platform.system() != "Linux", reason="needs /proc")
def test_a_peak_counts_from_when_the_last_one_was_forgotten():
    forget_peak_memory("cpu")
    before = peak_memory("cpu")
    assert 50e6 < before < 1e12
    with mmap.mmap(-1, 2**28) as fresh:  # torch may have free heap, which counts already
        for page in range(0, 2**28, mmap.PAGESIZE):
            fresh[page] = 1
    assert peak_memory("cpu") > before + 2e8
    forget_peak_memory("cpu")
    assert peak_memory("cpu") < before + 1e8


@pytest.mark.skipif(platform.system() != "Linux", reason="needs /proc")
def test_free_memory_is_that_of_the_machine():
    assert 1e8 < free_memory() < 1e14
