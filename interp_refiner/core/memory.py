"""Keeps freed heap memory in the process; measures free memory and the peak of a process or a GPU."""

import ctypes
import platform
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
KEPT = 2**30  # bytes of free heap that are not given back to the system
# proc(5)
_STATUS, _CLEAR_REFS, _MEMORY = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


def keep_freed_memory() -> bool:
    """Makes glibc keep up to 1 GiB of freed heap instead of unmapping every large tensor that is freed.

    Fresh pages are zeroed and faulted in one by one, which can cost more than the arithmetic on them. On a virtual
    machine the forward process of a full-size batch takes 1.55 times the floor of ``benchmark=corruption`` with this,
    and 2.6 times without (float32, linear).

    Returns:
        Whether it took effect: glibc on Linux only; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Large blocks come from the heap instead of separate mappings; the heap grows in big steps and is trimmed late.
    return all(mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TOP_PAD, KEPT), (M_TRIM_THRESHOLD, KEPT)))


def forget_peak_memory(device: torch.device | str) -> None:
    """Resets :func:`peak_memory`; several runs of a sweep may share a process."""
    if torch.device(device).type == "cuda":
        if torch.cuda.is_initialized():  # before, there is no peak, and torch would raise for this device
            torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")


def peak_memory(device: torch.device | str) -> int:
    """Peak memory in bytes since :func:`forget_peak_memory`: that of tensors on a GPU, or that of the process.

    On a system without ``/proc`` it is the peak since the process began.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (most := _kilobytes(_STATUS, "VmHWM")) is not None:
        return 1024 * most
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory() -> int | None:
    """Bytes that new processes can allocate without swapping; None on a system without ``/proc``."""
    free = _kilobytes(_MEMORY, "MemAvailable")
    return None if free is None else 1024 * free


def _kilobytes(file: Path, name: str) -> int | None:
    found = re.search(rf"{name}:\s+(\d+) kB", file.read_text()) if file.is_file() else None
    return int(found[1]) if found else None
