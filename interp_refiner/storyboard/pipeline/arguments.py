"""Arguments and output of the pipeline, as in diffusers."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec import as_frames
from interp_refiner.model.sampler import Bridge, Consistency, OneJump, Sampler
from interp_refiner.storyboard.file.keyframe import Keyframe, Time
from interp_refiner.storyboard.plan.plan import OF_CLIPS, VideoPlan, VideoSize

OutputType = Literal["pil", "np", "pt", "latent"]
Embedding = Float[Tensor, "... l d"]  # of one prompt; checked against the shape in training


@dataclass(frozen=True, eq=False)
class Request:
    """The request for one video.

    Attributes:
        prompt: for the frames before the first keyframe that has a prompt; words or an embedding. "" means no prompt.
        keyframes: given by the caller.
        size: of the video.
        keyframes_at: times at which the prompt generates a keyframe, unless there is one. None: evenly spread ones if
            ``keyframes`` is empty, else none.
        negative_prompt: guidance leads away from it; words or an embedding.
        seed: of all random draws.
    """

    prompt: str | Embedding = ""
    keyframes: Sequence[Keyframe] = ()
    size: VideoSize = OF_CLIPS
    keyframes_at: Sequence[Time] | None = None
    negative_prompt: str | Embedding = ""
    seed: int = 0

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative prompt."""
        return isinstance(self.negative_prompt, Tensor) or bool(self.negative_prompt)

    @property
    def words(self) -> dict[str, str]:
        """All prompts that are words, by the names of their arguments."""
        of_keyframes = {f"keyframes[{number}].prompt": key.prompt for number, key in enumerate(self.keyframes)}
        prompts = {"prompt": self.prompt, "negative_prompt": self.negative_prompt, **of_keyframes}
        return {name: prompt for name, prompt in prompts.items() if isinstance(prompt, str)}


@dataclass(frozen=True)
class RefinerOutput:
    """What :class:`RefinerPipeline` returns.

    Attributes:
        frames: list of PIL images, ``[t, h, w, 3]`` array in 0..1, or ``[3, t, h, w]`` tensor; latents for ``latent``.
        latents: of the video; it contains the hard keyframes bit for bit.
        keyframes: those of the caller, and the generated ones.
        values: the encoded keyframes, 0 elsewhere.
        interpolation: ``zbar``, the refiner's start.
        known, given: latent frames that are keyframes, and those that are constraints.
        plan: plan of the video.
        disagreement: for every joint between windows, see :class:`CrossFaded`.
    """

    frames: Any
    latents: Float[Tensor, "1 c t y x"]
    keyframes: list[Keyframe]
    values: Float[Tensor, "1 c t y x"]
    interpolation: Float[Tensor, "1 c t y x"]
    known: Bool[Tensor, "1 t"]
    given: Bool[Tensor, "1 t"]
    plan: VideoPlan
    disagreement: list[float | None] = field(default_factory=list)


def seed_of(generator: torch.Generator | int | None) -> int:
    """The seed of a generator; for None, a random seed.

    Raises:
        BadValue: anything else.
    """
    if generator is None:
        return secrets.randbits(63)
    if isinstance(generator, bool) or not isinstance(generator, int | torch.Generator):
        raise BadValue("generator", type(generator).__name__, "a torch.Generator, a seed, or None for a random seed")
    return generator if isinstance(generator, int) else generator.initial_seed()


def at_least_one(name: str, number: int | None, without: str) -> int | None:
    """Returns the number if it is None or a whole number >= 1.

    Args:
        name: of the argument.
        number: the argument.
        without: what None stands for.

    Raises:
        BadValue: any other number.
    """
    if number is not None and (isinstance(number, bool) or not isinstance(number, Integral) or number < 1):
        raise BadValue(name, number, f"a whole number >= 1, or None for {without}")
    return None if number is None else int(number)


def of_steps(sampler: Sampler, steps: int | None, distilled: bool) -> Sampler:
    """The sampler of ``num_inference_steps``.

    Args:
        sampler: of the model; it stays if it can take that number of steps.
        steps: the argument; None for the model's own sampler.
        distilled: whether the model is distilled.

    Raises:
        BadValue: not a whole number >= 1.
    """
    if (number := at_least_one("num_inference_steps", steps, "the model's own sampler")) is None:
        return sampler
    if distilled:
        return (sampler if isinstance(sampler, Consistency) else Consistency(views=sampler.views)).of_steps(number)
    if number == 1:
        return sampler if isinstance(sampler, OneJump) else OneJump(views=sampler.views)
    return (sampler if isinstance(sampler, Bridge) else Bridge(views=sampler.views)).of_steps(number)


def prompt_or_embedding(
    name: str, words: str | None, embedding: Embedding | None, trained: tuple[int, ...] | None
) -> str | Float[Tensor, "l d"]:
    """A prompt's words, or its precomputed embedding.

    Args:
        name: name of the prompt, for the error.
        words: None and "" mean no prompt.
        embedding: used instead of the words.
        trained: ``(L, D)`` of the embeddings in training; None for a model without prompts.

    Raises:
        BadValue: both, or an embedding of another shape.
    """
    if embedding is None:
        return words or ""
    if words:
        raise BadValue(f"{name}_embeds", list(embedding.shape), f"{name} or {name}_embeds, not both")
    row = embedding[0] if embedding.ndim == 3 and len(embedding) == 1 else embedding
    if trained is None or row.shape != trained:
        allowed = (
            "none: the model was trained without prompts" if trained is None else f"{list(trained)} as in training"
        )
        raise BadValue(f"{name}_embeds", list(embedding.shape), allowed)
    return row.float()


def as_output(video: Float[Tensor, "3 t h w"], output_type: OutputType) -> Any:
    """Decoded RGB as a tensor, an array ``[t, h, w, 3]`` or PIL images."""
    if output_type == "pt":
        return video
    if output_type == "np":
        return np.ascontiguousarray(video.permute(1, 2, 3, 0).numpy())
    return [Image.fromarray(frame) for frame in as_frames(video).numpy()]
