"""Kernels of dense attention, through diffusers' dispatcher, and the choice of the fastest."""

import functools
import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, MissingExtra, choice, median_seconds
from interp_refiner.model.attention.attention import Workload
from interp_refiner.model.attention.flash4 import flash4_attention

AUTO = "auto"
HALF = (torch.bfloat16, torch.float16)
REPEATS = 5  # timed runs per trial
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

log = logging.getLogger(__name__)


def dispatched(
    q: Float[Tensor, "b n h d"], k: Float[Tensor, "b l h d"], v: Float[Tensor, "b l h d"], name: AttentionBackendName
) -> Float[Tensor, "b n h d"]:
    """Softmax attention by diffusers' backend ``name``."""
    return dispatch_attention_fn(q, k, v, backend=name)


@dataclass(frozen=True)
class Backend:
    """One kernel.

    Attributes:
        attend: maps queries, keys and values ``[b, n, h, d]`` to outputs.
        module: the module that it imports; None if torch contains the kernel.
        package, extra: the package that it needs, and this project's extra that installs it.
        source: where to build the package from, if no package index has it.
        anywhere: whether it runs on every device and in every precision; else only on CUDA in bfloat16 or float16.
        trains: whether it has a backward pass.
    """

    attend: Attend
    module: str | None = None
    package: str = ""
    extra: str = ""
    source: str = ""
    anywhere: bool = False
    trains: bool = True

    @property
    def installed(self) -> bool:
        return self.module is None or _importable(self.module)


def _through_diffusers(name: AttentionBackendName) -> Attend:
    return functools.partial(dispatched, name=name)


BACKENDS = {
    "sdpa": Backend(_through_diffusers(AttentionBackendName.NATIVE), anywhere=True),
    "cudnn": Backend(_through_diffusers(AttentionBackendName._NATIVE_CUDNN)),
    "flash": Backend(  # imports its own module, because flash-attn-4 alone also creates a folder flash_attn
        _through_diffusers(AttentionBackendName.FLASH), "flash_attn.flash_attn_interface", "flash-attn", "flash"
    ),
    "flash3": Backend(  # diffusers registers its operator without a backward pass
        _through_diffusers(AttentionBackendName._FLASH_3),
        "flash_attn_interface",
        "flash-attn-3",
        source="the hopper folder of github.com/Dao-AILab/flash-attention",
        trains=False,
    ),
    "flash4": Backend(flash4_attention, "flash_attn.cute", "flash-attn-4", "flash4"),
}

# values of attention.backend that work on every device in every precision; `eager` belongs to sparse attention
RUN_EVERYWHERE = (AUTO, "eager", *(name for name, backend in BACKENDS.items() if backend.anywhere))


def portable(attention: Mapping[str, Any]) -> dict[str, str]:
    """``auto`` for every setting of an attention node whose kernel does not run on every device in every precision."""
    kernels = {name: attention.get(name) for name in ("backend", "cross_backend")}
    return {name: AUTO for name, kernel in kernels.items() if kernel not in (None, *RUN_EVERYWHERE)}


def check_backend(argument: str, name: str) -> str:
    """Returns ``name`` if the backend exists and is installed.

    Raises:
        BadValue: there is no such backend.
        MissingExtra: its package is not installed.
    """
    choice(argument, name, (AUTO, *BACKENDS))
    if name != AUTO and not BACKENDS[name].installed:
        backend = BACKENDS[name]
        raise MissingExtra(f"{argument}={name}", backend.package, backend.extra, backend.source)
    return name


def resolve(argument: str, name: str, work: Workload) -> str:
    """The backend to use: ``name`` itself, or for ``auto`` the fastest one that works.

    With ``torch.use_deterministic_algorithms``, ``auto`` is sdpa, because the fastest kernel may differ from process to
    process.

    Raises:
        BadValue: the backend does not run on this device, or has no backward pass although one follows.
    """
    if name == AUTO:
        return "sdpa" if torch.are_deterministic_algorithms_enabled() else fastest(work)
    if not BACKENDS[name].anywhere and not on_tensor_cores(work):
        allowed = f"sdpa or auto on {work.device.type} in {work.dtype}; {name} is for CUDA in bfloat16 or float16"
        raise BadValue(argument, name, allowed)
    if work.training and not BACKENDS[name].trains:
        able = " | ".join([AUTO, *(other for other, backend in BACKENDS.items() if backend.trains)])
        raise BadValue(argument, name, f"{able} in training; diffusers' {name} has no backward pass")
    return name


@functools.cache
def fastest(work: Workload) -> str:
    """The fastest backend on CUDA, found by timing all of them at these sizes and logged; sdpa elsewhere."""
    if not on_tensor_cores(work):
        return "sdpa"
    seconds = {name: _trial(backend, work) for name, backend in BACKENDS.items()}
    best = min(seconds, key=lambda name: seconds[name])
    times = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in seconds.items() if s < float("inf"))
    log.info("attention backend auto: %s (%s; %s)", best, times or "no kernel passed its trial", work)
    return best


def on_tensor_cores(work: Workload) -> bool:
    """Whether all kernels support the work: CUDA, in bfloat16 or float16."""
    return work.device.type == "cuda" and work.dtype in HALF


def _trial(backend: Backend, work: Workload) -> float:
    """Seconds that the work takes; infinite if the kernel is missing or fails."""
    if not backend.installed:
        return float("inf")
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(work.training),
        torch.autocast(work.device.type, enabled=False),
    ):
        q, k, v, grad = _random_inputs(work)

        def run() -> object:
            out = backend.attend(q, k, v)
            return torch.autograd.grad(out, (q, k, v), grad) if work.training else out

        try:
            return median_seconds(run, work.device, REPEATS)
        except Exception as error:  # kernels raise various errors if they cannot run
            log.info("attention backend %s failed: %s (%s)", _name_of(backend), str(error).partition("\n")[0], work)
            return float("inf")


def _random_inputs(work: Workload) -> list[Tensor]:
    """Queries, keys, values, and a gradient of the output."""
    generator = torch.Generator(work.device).manual_seed(0)

    def normal(tokens: int) -> Tensor:
        size = (work.batch, tokens, work.heads, work.head_dim)
        return torch.randn(size, generator=generator, device=work.device, dtype=work.dtype)

    leaves = [normal(tokens).requires_grad_(work.training) for tokens in (work.queries, work.keys, work.keys)]
    return [*leaves, normal(work.queries)]


def _name_of(backend: Backend) -> str:
    return next((name for name, known in BACKENDS.items() if known is backend), repr(backend.attend))


@functools.cache
def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its parent package is missing, or does not support this machine
        return False
