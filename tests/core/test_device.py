"""The stated peak speed of devices, and times between marks."""

import time

import pytest
import torch

from interp_refiner.core import Mark, median_seconds, peak_flops, peak_memory
from interp_refiner.core.device import named_peak


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA B200", 2.25e15),
        ("NVIDIA GB200", 2.5e15),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Some Other Card", None),
    ],
)
def test_a_device_is_known_by_its_name(name, peak):
    assert named_peak(name) == peak


def test_a_cpu_has_no_peak():
    assert peak_flops("cpu") is None


def test_marks_tell_the_time_between_them():
    first = Mark("cpu")
    time.sleep(0.02)
    second = Mark("cpu")
    assert 0.02 <= first.seconds_until(second) == -second.seconds_until(first)


def test_the_median_leaves_the_warm_up_out():
    pauses = iter([0.5, 0.0, 0.02, 0.0])
    assert median_seconds(lambda: time.sleep(next(pauses)), "cpu", repeats=3) < 0.25


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_marks_on_a_gpu_span_its_work():
    x = torch.randn(4096, 4096, device="cuda")
    first = Mark("cuda")
    for _ in range(20):
        x @ x
    second = Mark("cuda")
    assert first.seconds_until(second) > 1e-4
    assert peak_memory("cuda") > 4096**2 * 4
