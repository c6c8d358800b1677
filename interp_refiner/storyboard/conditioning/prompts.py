"""Adapts a model's clean estimate to a storyboard: prompts per segment, guidance, proposals, steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import Corrupted, per_frame
from interp_refiner.model.sampler import CleanEstimate
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.plan.plan import VideoPlan

OnStep = Callable[[int, Corrupted, Tensor], Tensor]


@dataclass(frozen=True)
class Prompts:
    """The prompts of all frames of a video.

    Attributes:
        texts: embeddings of all different prompts; None for a model without text.
        of_frame: index of the prompt of each latent frame.
        words: all different prompts; None for one that is given as an embedding.
        negative: the embedding of the negative prompt, for a keyframe source with guidance; None for zeros.
    """

    texts: Float[Tensor, "p l d"] | None
    of_frame: Int[Tensor, " t"]
    words: Sequence[str | None]
    negative: Float[Tensor, "l d"] | None = None


def prompted(
    estimate: CleanEstimate, texts: Float[Tensor, "p l d"], prompt_of_frame: Int[Tensor, " t"]
) -> CleanEstimate:
    """Makes one estimate per prompt, and takes every frame from the estimate with its own prompt."""
    occurring = sorted(set(prompt_of_frame.tolist()))

    def of_segments(corrupted: Corrupted) -> Tensor:
        result = None
        for index in occurring:
            text = texts[index : index + 1].expand(corrupted.clip.batch_size, -1, -1)
            made = estimate(replace(corrupted, clip=replace(corrupted.clip, text=text)))
            here = per_frame((prompt_of_frame == index).unsqueeze(0), made)
            result = made if result is None else torch.where(here, made, result)
        assert result is not None
        return result

    return of_segments


def with_proposals(
    estimate: CleanEstimate, values: Float[Tensor, "1 c t *space"], strength: Float[Tensor, " t"]
) -> CleanEstimate:
    """``w v + (1 - w) z0_hat`` with a strength ``w`` per frame, 0 where there is no proposal; see :class:`Keyframe`."""
    weight = per_frame(strength.unsqueeze(0), values)
    return lambda corrupted: torch.lerp(estimate(corrupted), values, weight)


def strengths(plan: VideoPlan, keyframes: Sequence[Keyframe], generated: float) -> Float[Tensor, " t"]:
    """The strength of the proposal in every latent frame; ``generated`` is the default for generated keyframes."""
    strength = torch.zeros(plan.latent_shape[1])
    for placed in plan.placed:
        keyframe = keyframes[placed.index]
        untold = generated if keyframe.generated else 0.0
        strength[placed.slots.start : placed.slots.stop] = untold if keyframe.strength is None else keyframe.strength
    return strength


def counted(estimate: CleanEstimate, on_step: OnStep) -> CleanEstimate:
    """Calls ``on_step(step, state, z0_hat)`` after every estimate and continues with the estimate that it returns."""
    step = -1

    def estimated(corrupted: Corrupted) -> Tensor:
        nonlocal step
        step += 1
        return on_step(step, corrupted, estimate(corrupted))

    return estimated


def prompts_of(plan: VideoPlan, keyframes: Sequence[Keyframe], base: str | None) -> tuple[list[str | None], list[int]]:
    """:func:`prompt_segments` of a plan."""
    changes = [(p.slots.start, text) for p in plan.placed if (text := keyframes[p.index].prompt) is not None]
    return prompt_segments(base, changes, plan.latent_shape[1])


def prompt_segments(
    base: str | None, changes: Sequence[tuple[int, str]], num_frames: int
) -> tuple[list[str | None], list[int]]:
    """The different prompts, and the index of the prompt of each latent frame.

    Args:
        base: prompt until the first change; None if it is given as an embedding.
        changes: (latent frame, prompt): the prompt from that frame on.
        num_frames: of the clip.
    """
    prompts: list[str | None] = [base]
    of_frame, current = [], 0
    at = dict(sorted(changes))
    for frame in range(num_frames):
        if frame in at:
            if at[frame] not in prompts:
                prompts.append(at[frame])
            current = prompts.index(at[frame])
        of_frame.append(current)
    return prompts, of_frame
