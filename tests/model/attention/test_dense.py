"""Backends of dense attention: which one is chosen, and which one is refused by name."""

import logging
import re

import pytest
import torch

from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.model.attention import Dense, backends
from tests.helpers import build
from tests.model.attention.workloads import small_work


@pytest.mark.parametrize(
    ("name", "package", "how"),
    [
        ("flash", "flash-attn", "pip install 'interp_refiner[flash]'"),
        ("flash3", "flash-attn-3", "build it from the hopper folder of github.com/Dao-AILab/flash-attention"),
    ],
)
def test_a_missing_package_is_refused_with_what_to_install(name, package, how, monkeypatch):
    monkeypatch.setattr(backends, "_importable", lambda module: False)
    message = re.escape(f"backend={name} needs {package}, which is not installed: {how}")
    with pytest.raises(MissingExtra, match=message):
        Dense(name)
    with pytest.raises(MissingExtra, match=f"cross_backend={name} needs {package}"):
        Dense("sdpa", name)


def test_flash_attn_is_not_taken_to_be_there_where_only_its_folder_is(tmp_path, monkeypatch):
    """As flash-attn-4 leaves it, whose modules are in ``flash_attn/cute``."""
    (tmp_path / "flash_attn" / "cute").mkdir(parents=True)
    (tmp_path / "flash_attn" / "cute" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "_importable", backends._importable.__wrapped__)  # it remembers
    assert backends.BACKENDS["flash4"].installed
    assert not backends.BACKENDS["flash"].installed


def test_an_unknown_backend_is_refused():
    with pytest.raises(BadValue, match=r"backend=cudn: expected auto \| sdpa \| .*; did you mean 'cudnn'"):
        Dense("cudn")


def test_a_backend_that_cannot_run_here_is_refused():
    with pytest.raises(BadValue, match="cross_backend=cudnn: expected sdpa or auto on cpu"):
        Dense("sdpa", "cudnn").cross_attention(8).prepare(small_work(dtype=torch.bfloat16))
    with pytest.raises(BadValue, match="cudnn is for CUDA in bfloat16 or float16"):
        backends.resolve("backend", "cudnn", small_work("cuda"))


def test_a_backend_without_a_backward_pass_is_for_inference(monkeypatch):
    sizes = {"device": "cuda", "dtype": torch.bfloat16}
    assert backends.resolve("backend", "flash3", small_work(**sizes, training=False)) == "flash3"
    with pytest.raises(BadValue, match=r"backend=flash3: expected auto \| sdpa .* in training; .* no backward pass"):
        backends.resolve("backend", "flash3", small_work(**sizes))


def test_auto_is_no_trial_where_torch_is_deterministic(monkeypatch):
    monkeypatch.setattr(backends, "fastest", lambda work: "cudnn")
    work = small_work("cuda", torch.bfloat16)
    assert backends.resolve("backend", "auto", work) == "cudnn"
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert backends.resolve("backend", "auto", work) == "sdpa"


def test_auto_is_sdpa_on_a_cpu_and_in_float32():
    assert backends.resolve("backend", "auto", small_work(dtype=torch.bfloat16)) == "sdpa"
    assert backends.resolve("backend", "auto", small_work("cuda")) == "sdpa"


def test_auto_takes_the_fastest_that_works_and_says_so(monkeypatch, caplog):
    seconds = {"sdpa": 3e-3, "cudnn": 2e-3, "flash": float("inf"), "flash3": 2.5e-3, "flash4": float("inf")}
    named = {id(backend): name for name, backend in backends.BACKENDS.items()}
    monkeypatch.setattr(backends, "_trial", lambda backend, *_: seconds[named[id(backend)]])
    backends.fastest.cache_clear()
    with caplog.at_level(logging.INFO):
        assert backends.fastest(small_work("cuda", torch.bfloat16, keys=12)) == "cudnn"
    backends.fastest.cache_clear()
    expected = "cudnn (sdpa 3.00 ms, cudnn 2.00 ms, flash3 2.50 ms; forward and backward of 48 x 12 tokens, 2 heads x 8"
    assert f"attention backend auto: {expected}, batch 2, bfloat16)" in caplog.text


def test_a_kernel_that_fails_is_never_the_fastest():
    def broken(q, k, v):
        raise RuntimeError("no kernel image for this device")

    assert backends._trial(backends.Backend(broken), small_work()) == float("inf")
    missing = backends.Backend(backends.BACKENDS["sdpa"].attend, module="no_such_module")
    assert backends._trial(missing, small_work()) == float("inf")


@pytest.mark.parametrize("training", [True, False])
def test_a_trial_is_of_the_very_sizes_with_a_backward_pass_where_one_follows(training):
    seen = []

    def attend(q, k, v):
        seen.append((tuple(q.shape), tuple(k.shape), tuple(v.shape), q.dtype, q.requires_grad))
        return backends.BACKENDS["sdpa"].attend(q, k, v)

    work = small_work(dtype=torch.bfloat16, keys=7, training=training)
    with torch.inference_mode():  # where validation comes before the first step of training
        assert 0 < backends._trial(backends.Backend(attend), work) < float("inf")
    assert set(seen) == {((2, 48, 2, 8), (2, 7, 2, 8), (2, 7, 2, 8), torch.bfloat16, training)}


def test_cross_attention_has_its_own_backend():
    attention = build("attention", "dense", "attention.backend=sdpa", "attention.cross_backend=cudnn")
    assert attention.self_attention(8).backend == "sdpa"
    assert attention.cross_attention(8).backend == "cudnn"
    assert build("attention", "dense").cross_attention(8).backend == "auto"
