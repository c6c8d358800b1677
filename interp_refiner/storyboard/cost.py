"""What a video will cost, from one clean estimate and a few decoded frames, made and timed."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from interp_refiner.core import Draws
from interp_refiner.model.sampler import NoGuidance
from interp_refiner.storyboard.keyframe import Keyframe
from interp_refiner.storyboard.pipeline import KEY, STREAM, RefinerPipeline
from interp_refiner.storyboard.plan import VideoPlan
from interp_refiner.storyboard.windows import Window

KIB = 2**10
DECODED = 3  # latent frames; a causal codec's first one is cheaper than the others
DECODINGS = 2  # the refined video, and the interpolation beside it on the contact sheet


@dataclass(frozen=True)
class Cost:
    """What to expect.

    Attributes:
        estimates: passes of the network, over all steps, windows and prompts.
        refining: seconds for them.
        decoding: seconds for the video, and for the interpolation on its contact sheet.
        gigabytes: the most that was held so far, the model, one estimate and a few decoded frames included: on the
            device, or by the process.
    """

    estimates: int
    refining: float
    decoding: float
    gigabytes: float

    @property
    def seconds(self) -> float:
        """All but loading and writing."""
        return self.refining + self.decoding


@torch.no_grad()
def expected_cost(pipeline: RefinerPipeline, plan: VideoPlan, keyframes: Sequence[Keyframe]) -> Cost:
    """Runs the network once on the longest window, decodes a few latent frames, and multiplies.

    Args:
        pipeline: with the sampler that will be used.
        plan: of the video, without collisions.
        keyframes: of the video.
    """
    corrupted = pipeline.corrupt(plan, keyframes, Draws(0, STREAM, [KEY]))
    longest = max(plan.parts, key=lambda part: part.length)
    texts = pipeline.embed([""])
    window = corrupted.frames(longest.start, longest.stop)
    window.clip.text = texts
    of_estimate = _timed(lambda: pipeline.clean_estimate(window), pipeline.device)
    stretch = corrupted.interpolation[:, :, :DECODED]
    of_stretch = _timed(lambda: pipeline.decode(stretch), pipeline.device)
    pixel_frames = len(pipeline.codec.latent_frame(stretch.shape[2]))
    steps = pipeline.sampler.evaluations(corrupted.plan.num_levels)
    a_prompt = 1 if isinstance(pipeline.sampler.guidance, NoGuidance) else 2
    passes = [steps * a_prompt * _prompts_in(plan, keyframes, part) for part in plan.parts]
    whole = sum(count * part.length / longest.length for count, part in zip(passes, plan.parts, strict=True))
    return Cost(
        estimates=sum(passes),
        refining=of_estimate * whole,
        decoding=DECODINGS * of_stretch * plan.grid.num_frames / pixel_frames,
        gigabytes=_peak(pipeline.device) / 2**30,
    )


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds on the wall; on a GPU those of the second time, since the first one loads and compiles kernels."""
    if device.type == "cuda":
        work()
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _prompts_in(plan: VideoPlan, keyframes: Sequence[Keyframe], part: Window) -> int:
    """How many prompts occur in a window: the one it starts with, and every change inside."""
    changes = [p.slots.start for p in plan.placed if keyframes[p.index].prompt is not None]
    return 1 + sum(part.start < change < part.stop for change in changes)


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
