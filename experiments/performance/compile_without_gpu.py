"""Compiles a block of the recipe for one H200 without having one: its kernels, shared memory, seconds to compile.

    python experiments/performance/compile_without_gpu.py

It needs a build of torch for CUDA (with its Triton), but neither GPU nor driver: tensors are fake, Triton gets its
target explicitly, and the graph is not run. It compiles the forward pass only, because autograd needs a device. It
shows whether kernels fit and how long compilation takes, but no speed. It replaces internals of torch 2.11.
"""

import json
import sys
import time
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import torch
import triton
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import config, output_code
from torch._inductor.fx_passes import joint_graph
from torch._inductor.runtime import triton_helpers, triton_heuristics
from torch._subclasses import fake_tensor
from triton.backends.compiler import GPUTarget

sys.path.insert(0, str(Path(__file__).parents[2]))
from interp_refiner.config.describe import run_metadata
from interp_refiner.core import ClipSpec
from interp_refiner.model.attention import SparseLinear
from interp_refiner.model.backbone import Blocks, Interface, Wan, WanSize
from tests.factories import corrupted_clip

H200 = SimpleNamespace(
    name="NVIDIA H200",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=141 * 10**9,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    warp_size=32,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    L2_cache_size=60 * 2**20,
    gcnArchName="",
)
FIRST = torch.device("cuda", 0)


class Compiled(Exception):
    """Raised when all kernels of a graph are compiled, instead of running it."""


def pretend_a_gpu() -> None:
    """Makes torch and Triton see one H200, as far as compilation needs it."""
    torch._C._ensureCUDADeviceGuardSet()
    random = torch.zeros(16, dtype=torch.uint8)
    for name, answer in {
        "is_available": True,
        "is_initialized": True,
        "_lazy_init": None,
        "device_count": 1,
        "current_device": 0,
        "set_device": None,
        "synchronize": None,
        "_exchange_device": 0,
        "_maybe_exchange_device": 0,
        "get_device_properties": H200,
        "get_device_capability": (H200.major, H200.minor),
        "get_device_name": H200.name,
        "is_bf16_supported": True,
        "get_rng_state": random,
        "set_rng_state": None,
        "current_stream": SimpleNamespace(cuda_stream=0, stream_id=0, device_index=0, device_type=1, device=FIRST),
    }.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for name in ("_cuda_getDevice", "_cuda_exchangeDevice", "_cuda_maybeExchangeDevice", "_cuda_getCurrentRawStream"):
        setattr(torch._C, name, lambda *_: 0)
    torch._C._cuda_setDevice = lambda *_: None
    CudaInterface.get_device_properties = staticmethod(lambda *_: H200)
    import triton

    target = GPUTarget("cuda", 90, H200.warp_size)
    driver = {"get_current_target": target, "get_current_device": 0, "get_device_interface": torch.cuda}
    driver |= {"get_active_torch_device": FIRST, "get_current_stream": 0}
    triton.runtime.driver.set_active(
        SimpleNamespace(**{name: lambda *_, answer=answer: answer for name, answer in driver.items()})
    )


def record_kernels() -> list[dict[str, Any]]:
    """Compiles kernels in this process and records them; loads and runs none."""
    kernels: list[dict[str, Any]] = []
    fake_tensor.init_gpu_context = lambda *_: None
    triton_helpers.set_driver_to_gpu = lambda: None
    config.compile_threads = 1
    config.use_static_cuda_launcher = False
    config.joint_graph_constant_folding = False  # it computes constants on the device
    joint_graph.lazy_init = lambda *_: None  # patterns of attention, traced on the device
    compile_one = triton_heuristics.CachingAutotuner._precompile_config

    def compiled(self: Any, cfg: Any) -> Any:
        start = time.perf_counter()
        result = compile_one(self, cfg)
        seconds = round(time.perf_counter() - start, 2)
        shared = result.kernel.metadata.shared
        kernels.append({"kernel": self.fn.__name__, **cfg.kwargs, "shared_bytes": shared, "seconds": seconds})
        if shared > H200.shared_memory_per_block_optin:
            raise RuntimeError(f"{self.fn.__name__} needs {shared} bytes of shared memory")
        return result

    def run(*_: Any, **__: Any) -> None:
        raise Compiled

    triton_heuristics.CachingAutotuner._precompile_config = compiled
    output_code.CompiledFxGraph.__call__ = run
    triton_heuristics.CachingAutotuner._make_launchers = lambda *_: None
    return kernels


def on_gpu(x: Any) -> Any:
    """A fake tensor of the same layout on the GPU, for every tensor in it."""
    if isinstance(x, torch.Tensor):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=FIRST)
    if is_dataclass(x) and not isinstance(x, type):
        return replace(x, **{f.name: on_gpu(getattr(x, f.name)) for f in fields(x) if f.init})
    return x


def main() -> None:
    """Prints the kernels of one block at batch 2 and full size as JSON, the slowest to compile first."""
    shape = {"batch": 2, "frames": 21, "space": (60, 104)}
    corrupted = corrupted_clip("schedule.k_min=2", "schedule.num_levels=2", **shape)[0]
    spec = ClipSpec(tuple(corrupted.x.shape[1:]), tuple(corrupted.clip.text.shape[1:]))
    pretend_a_gpu()
    kernels = record_kernels()
    attention = SparseLinear(0.1, backend="flex", cross_backend="sdpa")
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), suppress(Compiled):
        model = Wan(Interface(spec), WanSize(num_layers=1), attention=attention, blocks=Blocks(compile=True))
        for module in model.modules():
            for name, weight in module._parameters.items():
                module._parameters[name] = weight if weight is None else torch.nn.Parameter(on_gpu(weight))
            for name, buffer in module._buffers.items():
                module._buffers[name] = buffer if buffer is None else on_gpu(buffer)
        with torch.autocast("cuda", torch.bfloat16):
            model(on_gpu(corrupted))
    kernels.sort(key=lambda kernel: -kernel["seconds"])
    total = round(sum(kernel["seconds"] for kernel in kernels), 1)
    about = {"torch": torch.__version__, "triton": triton.__version__, "commit": run_metadata()["git_commit"]}
    print(json.dumps({**about, "target": "sm_90a", **shape, "seconds": total, "kernels": kernels}, indent=1))


if __name__ == "__main__":
    # nothing compiled before is found again
    config.force_disable_caches = True
    triton.knobs.cache.dir = mkdtemp()
    main()
