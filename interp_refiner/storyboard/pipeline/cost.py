"""Estimates the cost of a video: times a small part of it and extrapolates from shapes."""

import resource
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from interp_refiner.core import Clip, Corrupted, Draws
from interp_refiner.model.keyframes import KeyframeRequest
from interp_refiner.storyboard.conditioning.phase1 import requests
from interp_refiner.storyboard.conditioning.prompts import prompts_of
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.pipeline.drafting import KEY, STREAM
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.plan.plan import VideoPlan
from interp_refiner.storyboard.plan.windows import Window

KIB = 2**10
DECODED = 3  # latent frames; a causal codec's first one is cheaper than the others
DECODINGS = 2  # the refined video, and the interpolation for the contact sheet
RGB_BYTES = 12  # per pixel: three floats
COPIES = 8  # of the video's pixels in memory at a time, while the report is made


@dataclass(frozen=True)
class Cost:
    """The expected cost.

    Attributes:
        generated: passes of the keyframe generator's network, over all steps and windows; 0 without generated
            keyframes.
        generating: seconds for these passes.
        estimates: passes of the refiner's network, over all steps, windows and prompts.
        refining: seconds for these passes.
        decoding: seconds to decode the video, and the interpolation for its contact sheet.
        gigabytes: peak memory including the model, on the device or of the process.
    """

    generated: int
    generating: float
    estimates: int
    refining: float
    decoding: float
    gigabytes: float

    @property
    def seconds(self) -> float:
        """The total, without loading and writing."""
        return self.generating + self.refining + self.decoding


@torch.no_grad()
def expected_cost(pipeline: RefinerPipeline, plan: VideoPlan, keyframes: Sequence[Keyframe], prompt: str = "") -> Cost:
    """Estimates the cost from one run of the networks and a few decoded latent frames, at most at the training size.

    The network's time is scaled by its operations, the codec's time by the pixels, and memory by both. Nothing is
    computed at the size of a larger video.

    Args:
        pipeline: with the sampler that will be used.
        plan: of the video, without collisions.
        keyframes: of the video; their pictures are not read.
        prompt: of the video, until a keyframe changes it.
    """
    longest = max(plan.parts, key=lambda part: part.length)
    probe = _probe(pipeline, plan, keyframes)
    window = probe.frames(longest.start, longest.stop)
    window.clip.text = pipeline.embed([""])
    of_estimate, held_by_estimate = _measured(lambda: pipeline.clean_estimate(window), pipeline.device)
    stretch = probe.interpolation[:, :, :DECODED]
    of_stretch, held_by_stretch = _measured(lambda: pipeline.decode(stretch), pipeline.device)

    a_prompt = pipeline.sampler.evaluations(probe.plan.num_levels) * pipeline.sampler.passes
    passes = [a_prompt * _prompts_in(plan, keyframes, prompt, part) for part in plan.parts]
    whole = sum(count * part.length / longest.length for count, part in zip(passes, plan.parts, strict=True))
    area = prod(plan.latent_shape[2:]) / prod(probe.x.shape[3:])
    larger = _operations(pipeline, plan.latent_shape[2:], window) / _operations(pipeline, probe.x.shape[3:], window)
    stretches = plan.grid.num_frames / len(pipeline.codec.latent_frame(stretch.shape[2]))
    sides = (side * pipeline.codec.spatial_factor for side in plan.latent_shape[2:])
    video = RGB_BYTES * plan.grid.num_frames * prod(sides)
    requests, of_request, held_by_request = _of_generating(pipeline, plan, keyframes, probe)
    held_by_decoding = held_by_stretch * area * stretches + (COPIES * video if pipeline.device.type == "cpu" else 0)
    held = max(held_by_estimate * area, held_by_request * area, held_by_decoding)
    return Cost(
        generated=requests,
        generating=of_request * area,
        estimates=sum(passes),
        refining=of_estimate * larger * whole,
        decoding=DECODINGS * of_stretch * area * stretches,
        gigabytes=(_peak(pipeline.device) + held) / 2**30,
    )


def _of_generating(
    pipeline: RefinerPipeline, plan: VideoPlan, keyframes: Sequence[Keyframe], probe: Corrupted
) -> tuple[int, float, float]:
    """Passes of the keyframe generator's network, seconds for them at the size of ``probe``, and bytes held.

    One step of the request with the most keyframes is timed.
    """
    wanted = [placed.slots.start for placed in plan.placed if keyframes[placed.index].generated]
    if pipeline.phase1 is None or not wanted:
        return 0, 0.0, 0.0
    sample, known = pipeline.phase1.fitted, set(plan.known) - set(wanted)
    made = requests(plan, wanted, known, prompts_of(plan, keyframes, None)[1])
    most = max(made, key=lambda asked: len(asked.slots))
    at, text = torch.arange(len(most.slots), device=pipeline.device).unsqueeze(0), pipeline.embed([""])
    given = torch.zeros_like(at, dtype=torch.bool)
    request = KeyframeRequest(at, most.part.length, probe.x[:, :, : at.shape[1]], given, text, text)
    once, draws = sample.of_steps(1), Draws(0, STREAM, [KEY])
    seconds, held = _measured(lambda: once(request, draws), pipeline.device)
    source = pipeline.phase1.chosen(pipeline.codec)
    passes = sum(source.evaluations(asked.free) for asked in made)
    return passes, seconds / once.evaluations(len(most.slots)) * passes, held


def _probe(pipeline: RefinerPipeline, plan: VideoPlan, keyframes: Sequence[Keyframe]) -> Corrupted:
    """A clip of zeros with the plan's frames and keyframes, no larger than the training clips."""
    c, t, *space = plan.latent_shape
    y, x = (min(side, trained) for side, trained in zip(space, pipeline.config.spec.latent_shape[2:], strict=True))
    known = torch.zeros(1, t, dtype=torch.bool, device=pipeline.device)
    given = known.clone()
    for placed in plan.placed:
        slots = slice(placed.slots.start, placed.slots.stop)
        known[:, slots], given[:, slots] = True, keyframes[placed.index].given
    level = torch.full((1,), plan.level, device=pipeline.device)
    clip = Clip(torch.zeros(1, c, t, y, x, device=pipeline.device), [KEY])
    draws = Draws(0, STREAM, [KEY])
    return pipeline.corruption.of_keyframes(clip, pipeline.levels.plan(known, given), level, draws)


def _operations(pipeline: RefinerPipeline, space: Sequence[int], window: Corrupted) -> float:
    """Operations of a network pass over a window of another size; the number of positions if it does not count."""
    text = window.clip.text
    counted = pipeline.backbone.flops(1, (*window.x.shape[1:3], *space), 1 if text is None else text.shape[1])
    return float(prod(space)) if counted is None else counted.total


class Held(TorchDispatchMode):
    """Counts the bytes of tensors that are allocated and not freed.

    Attributes:
        most: the largest number of bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = self.now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self._known:
            self._known.add(key)
            self.now += (size := storage.nbytes())
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _measured(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds, and additional bytes held."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        seconds = _timed(work, device)
        return seconds, float(torch.cuda.max_memory_allocated(device) - before)
    seconds = _timed(work, device)
    with torch.compiler.set_stance("force_eager"), Held() as held:  # compiled blocks cannot be watched
        work()
    return seconds, float(held.most)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds; on a GPU of the second run, because the first run loads and compiles kernels."""
    if device.type == "cuda":
        work()
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _prompts_in(plan: VideoPlan, keyframes: Sequence[Keyframe], base: str, part: Window) -> int:
    """The number of different prompts in a window; each takes a pass of its own."""
    _, of_frame = prompts_of(plan, keyframes, base)
    return len(set(of_frame[part.start : part.stop]))


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
