"""Memory of the process: keeps freed heap, and measures the peak."""

import ctypes
import platform
import re
from contextlib import suppress
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
KEPT = 2**30  # bytes of free heap that are not given back to the system
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # proc(5)


def keep_freed_memory() -> bool:
    """Makes glibc keep up to 1 GiB of freed heap instead of unmapping every large tensor that is freed.

    Fresh pages are zeroed and faulted in one by one, which can cost more than the arithmetic on them: on a virtual
    machine the forward process of a full-size batch takes 1.55 times its floor with this and 2.6 times without
    (``benchmark=corruption``, float32, linear).

    Returns:
        Whether it took effect: glibc on Linux only; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # large blocks come from the heap (no mappings of their own), which grows in big steps and is trimmed late
    return all(mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TOP_PAD, KEPT), (M_TRIM_THRESHOLD, KEPT)))


def reset_peak_memory() -> None:
    """Starts :func:`peak_memory_gb` anew: several runs of a sweep may share a process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")


def peak_memory_gb() -> float | None:
    """The most memory at a time since :func:`reset_peak_memory`, in 10^9 bytes.

    That is memory of the GPU in use by tensors where there is one, else resident memory of the process; None on a
    system without ``/proc``.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.is_file() else None
    return int(found[1]) * 1024 / 1e9 if found else None
