"""Kernels of dense attention, through diffusers' dispatcher, and which of them is fastest here."""

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from jaxtyping import Float
from torch import Tensor

from interp_refiner.attention.flash4 import flash4_attention
from interp_refiner.core import BadValue, MissingExtra, choice, median_seconds

AUTO = "auto"
HALF = (torch.bfloat16, torch.float16)
TRIAL = (1, 4096, 8)  # batch, tokens, heads
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
        attend: queries, keys and values ``[b, n, h, d]`` to outputs.
        module: what it imports; None where torch has it.
        package, extra: what to install for it.
        anywhere: runs on every device and in every precision; else on CUDA in bfloat16 or float16 only.
    """

    attend: Attend
    module: str | None = None
    package: str = ""
    extra: str = ""
    anywhere: bool = False

    @property
    def installed(self) -> bool:
        return self.module is None or _importable(self.module)


def _through_diffusers(name: AttentionBackendName) -> Attend:
    return functools.partial(dispatched, name=name)


BACKENDS = {
    "sdpa": Backend(_through_diffusers(AttentionBackendName.NATIVE), anywhere=True),
    "cudnn": Backend(_through_diffusers(AttentionBackendName._NATIVE_CUDNN)),
    "flash": Backend(_through_diffusers(AttentionBackendName.FLASH), "flash_attn", "flash-attn", "flash"),
    "flash3": Backend(
        _through_diffusers(AttentionBackendName._FLASH_3), "flash_attn_interface", "flash-attn-3", "flash3"
    ),
    "flash4": Backend(flash4_attention, "flash_attn.cute", "flash-attn-4", "flash4"),
}


def check_backend(argument: str, name: str) -> str:
    """Returns ``name`` if it is a backend that is installed.

    Raises:
        BadValue: there is no such backend.
        MissingExtra: its package is not installed.
    """
    choice(argument, name, (AUTO, *BACKENDS))
    if name != AUTO and not BACKENDS[name].installed:
        raise MissingExtra(f"{argument}={name}", BACKENDS[name].package, BACKENDS[name].extra)
    return name


def resolve(argument: str, name: str, head_dim: int, device: torch.device, dtype: torch.dtype) -> str:
    """The backend that ``name`` means on a device in a precision: itself, or for ``auto`` the fastest that works.

    Raises:
        BadValue: it does not run there.
    """
    if name == AUTO:
        return fastest(head_dim, torch.device(device), dtype)
    if not BACKENDS[name].anywhere and (device.type != "cuda" or dtype not in HALF):
        allowed = f"sdpa or auto on {device.type} in {dtype}; {name} is for CUDA in bfloat16 or float16"
        raise BadValue(argument, name, allowed)
    return name


@functools.cache
def fastest(head_dim: int, device: torch.device, dtype: torch.dtype) -> str:
    """The backend whose forward and backward pass is fastest here, by trial on CUDA; it is named in the log."""
    if device.type != "cuda" or dtype not in HALF:
        return "sdpa"
    seconds = {name: _trial(backend, head_dim, device, dtype) for name, backend in BACKENDS.items()}
    best = min(seconds, key=lambda name: seconds[name])
    times = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in seconds.items() if s < float("inf"))
    log.info("attention backend auto: %s (%s; forward and backward of %s)", best, times, [*TRIAL, head_dim])
    return best


def _trial(backend: Backend, head_dim: int, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of a forward and backward pass; infinite where the kernel is missing or fails."""
    if not backend.installed:
        return float("inf")
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        generator = torch.Generator(device).manual_seed(0)
        q, k, v, grad = torch.randn(4, *TRIAL, head_dim, generator=generator, device=device, dtype=dtype).unbind()
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        try:
            return median_seconds(lambda: torch.autograd.grad(backend.attend(*leaves), leaves, grad), device, repeats=5)
        except Exception as error:  # whatever a kernel raises where it cannot run: it is not for this device
            log.debug("attention backend %s does not run here: %s", backend.attend, error)
            return float("inf")


@functools.cache
def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
