"""What a video will cost, from one clean estimate that is made and timed."""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from interp_refiner.core import Draws
from interp_refiner.pipeline.keyframe import Keyframe
from interp_refiner.pipeline.pipeline import KEY, STREAM, RefinerPipeline
from interp_refiner.pipeline.plan import VideoPlan
from interp_refiner.pipeline.windows import Window
from interp_refiner.sampler import NoGuidance

KIB = 2**10


@dataclass(frozen=True)
class Cost:
    """What to expect.

    Attributes:
        estimates: passes of the network, over all steps, windows and prompts.
        seconds: for the steps; decoding and writing come on top.
        gigabytes: the most that was held so far, the model and one estimate included: on the device, or by the process.
    """

    estimates: int
    seconds: float
    gigabytes: float


@torch.no_grad()
def expected_cost(pipeline: RefinerPipeline, plan: VideoPlan, keyframes: Sequence[Keyframe]) -> Cost:
    """Runs the network once on the longest window and multiplies.

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
    start = time.perf_counter()
    pipeline.clean_estimate(window)
    if pipeline.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    steps = pipeline.sampler.evaluations(corrupted.plan.num_levels)
    a_prompt = 1 if isinstance(pipeline.sampler.guidance, NoGuidance) else 2
    passes = [steps * a_prompt * _prompts_in(plan, keyframes, part) for part in plan.parts]
    whole = sum(count * part.length / longest.length for count, part in zip(passes, plan.parts, strict=True))
    return Cost(sum(passes), seconds * whole, _peak(pipeline.device) / 2**30)


def _prompts_in(plan: VideoPlan, keyframes: Sequence[Keyframe], part: Window) -> int:
    """How many prompts occur in a window: the one it starts with, and every change inside."""
    changes = [p.slots.start for p in plan.placed if keyframes[p.index].prompt is not None]
    return 1 + sum(part.start < change < part.stop for change in changes)


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
