"""The device that a setting names, and its peak speed."""

import torch

from interp_refiner.core.errors import BadValue

# Operations per second of dense bfloat16 matrix products with float32 sums, as stated by the manufacturers. The first
# entry whose name is part of the device's name is used, so longer names come before shorter ones.
PEAK_FLOPS = {
    "GB200": 2.5e15,
    "B200": 2.25e15,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}


def device(name: str) -> str:
    """The device of a setting: ``auto`` is a GPU if there is one; raises :class:`BadValue` for ``cuda`` without one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadValue("device", "cuda", "auto or cpu: this machine has no GPU that torch can use")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def peak_flops(device: torch.device | str) -> float | None:
    """Peak bfloat16 operations per second; None for a CPU and for devices that are not in :data:`PEAK_FLOPS`."""
    if torch.device(device).type != "cuda":
        return None
    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """:func:`peak_flops` of the device with this name, for example ``"NVIDIA H200"``."""
    return next((peak for part, peak in PEAK_FLOPS.items() if part.lower() in name.lower()), None)
