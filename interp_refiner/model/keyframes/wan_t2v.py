"""Keyframes from a text-to-video model without training: samples the whole clip and keeps some of its frames."""

import copy
import json
from dataclasses import replace
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import (
    BadValue,
    ClipSpec,
    Draws,
    MissingExtra,
    choice,
    fetch,
    one_fault,
    take_frames,
    unreported,
)
from interp_refiner.model.backbone.pretrained import load_pretrained, second_of
from interp_refiner.model.keyframes.source import KeyframeRequest, KeyframeSource

Precision = Literal["float32", "bfloat16"]
ENCODER = "umt5"  # the encoder of Wan's prompts
PIPELINE = "WanPipeline"
TEMPORAL, SPATIAL = 4, 8  # the pipeline's factors between pixel and latent sizes


@final
class WanT2V(KeyframeSource):
    """diffusers' ``WanPipeline`` with its own scheduler, few steps, no training: K of the clip's T latent frames.

    Every keyframe is a frame of a whole clip. So its latent fits its position in a causal autoencoder's clip, but the
    cost is that of all T frames. The pipeline cannot keep given keyframes, so they are refused.

    Args:
        folder: a text-to-video pipeline of Wan2.1 as diffusers saves it, with ``transformer/``, ``scheduler/`` and the
            autoencoder's ``vae/config.json``; or one on the hub, see :func:`fetch`. Neither the autoencoder nor the
            text encoder is loaded.
        steps: steps of the scheduler; a distilled model needs few.
        guidance: w, see :class:`ClassifierFree`; 1 for none.
        precision: dtype of the weights.
        spec: of the clips that need keyframes.

    Attributes:
        spec: of the clips that the pipeline makes, with the statistics of its autoencoder.

    Raises:
        MissingExtra: transformers, which the pipeline needs, is not installed.
        BadValue: no such pipeline; weights that are missing, damaged or of another model; clips with another text
            encoder or number of channels; fewer than 1 step; a guidance below 0.
    """

    takes_given = False

    def __init__(
        self,
        folder: str,
        spec: ClipSpec,
        steps: int = 50,
        guidance: float = 5.0,
        precision: Precision = "bfloat16",
    ):
        choice("precision", precision, get_args(Precision))
        if not 0 <= guidance < float("inf"):
            raise BadValue("guidance", guidance, "a number >= 0; 1 is no guidance")
        if (made_with := spec.text.get("name", ENCODER)) != ENCODER or spec.text_shape is None:
            found = made_with if spec.text_shape is not None else "no prompts"
            raise BadValue("folder", folder, f"clips with prompts of {ENCODER}, as Wan's are: these have {found}")
        self.pipeline, self.spec = _load(folder, spec, getattr(torch, precision))
        self.guidance, self.steps = guidance, _at_least_one(steps)

    def __repr__(self) -> str:
        return f"wan_t2v(steps={self.steps}, guidance={self.guidance:g})"

    @property
    def guided(self) -> bool:
        return self.guidance > 1  # as diffusers

    def evaluations(self, free: int) -> int:
        return self.steps * self.pipeline.scheduler.order * (2 if self.guided else 1)

    def of_steps(self, steps: int) -> "WanT2V":
        made = copy.copy(self)
        made.steps = _at_least_one(steps)
        return made

    def to(self, device: torch.device) -> "WanT2V":
        self.pipeline.to(device)
        return self

    @torch.no_grad()
    def __call__(self, request: KeyframeRequest, draws: Draws) -> Float[Tensor, "b c k *space"]:
        """As :class:`KeyframeSource`.

        Raises:
            BadValue: given keyframes, a start time, no prompt embeddings, or an odd height or width.
        """
        if request.start is not None:
            raise BadValue("start", request.start.tolist(), "null: wan_t2v begins with noise")
        if bool(request.given.any()):
            allowed = "no given keyframes, because wan_t2v samples whole clips and cannot keep them"
            raise BadValue("keyframes", request.positions[request.given].tolist(), allowed)
        if request.text is None:
            raise BadValue("text", None, "prompt embeddings")
        b, c, _, y, x = request.latents.shape
        if y % 2 or x % 2:
            raise BadValue("latent_shape", [c, request.num_frames, y, x], "a height and width divisible by 2")
        noise = draws.normal("keyframes", request.latents.new_empty(b, c, request.num_frames, y, x).float())
        seeds = draws.seeds("steps")
        clips = torch.cat([self._clip(request, noise, row, seeds[row]) for row in range(b)])
        return take_frames(clips.to(request.latents.dtype), request.positions)

    def _clip(
        self, request: KeyframeRequest, noise: Float[Tensor, "b c t y x"], row: int, seed: int
    ) -> Float[Tensor, "1 c t y x"]:
        """One clip; the scheduler's random numbers depend only on the clip's own seed."""
        assert request.text is not None
        negative = torch.zeros_like(request.text) if request.negative is None else request.negative
        with torch.random.fork_rng([noise.device] if noise.is_cuda else []):
            torch.manual_seed(seed)
            made = self.pipeline(
                prompt_embeds=request.text[row : row + 1],
                negative_prompt_embeds=negative[row : row + 1],
                latents=noise[row : row + 1],
                height=SPATIAL * noise.shape[3],
                width=SPATIAL * noise.shape[4],
                num_frames=TEMPORAL * (noise.shape[2] - 1) + 1,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                output_type="latent",
            )
        return made.frames


def _load(folder: str, spec: ClipSpec, dtype: torch.dtype) -> tuple[Any, ClipSpec]:
    """The pipeline without autoencoder and text encoder, and the spec of its clips."""
    try:
        import transformers  # noqa: F401 - without it diffusers' pipeline is a dummy
        from diffusers import WanPipeline
    except ImportError as error:
        raise MissingExtra("keyframe_source=wan_t2v", "transformers", "wan") from error
    allowed = f"the folder of a {PIPELINE} of Wan2.1, as diffusers saves it"
    root = fetch("folder", folder, files=["vae/config.json"])  # weights are downloaded after the checks
    with one_fault("folder", folder, allowed):
        found = json.loads((root / "model_index.json").read_text()).get("_class_name")
        codec, second = json.loads((root / "vae" / "config.json").read_text()), second_of(root)
    if found != PIPELINE or second is not None:
        raise BadValue("folder", folder, f"{allowed}: this is {found}{' with two transformers' if second else ''}")
    root = fetch("folder", folder, ["transformer", "scheduler"])
    try:
        transformer = load_pretrained(
            str(root), in_channels=spec.channels, out_channels=spec.channels, text_dim=spec.text_dim
        )
    except BadValue as error:
        raise BadValue("folder", folder, error.allowed) from error
    parts: dict[str, Any] = {"vae": None, "text_encoder": None, "tokenizer": None}
    with one_fault("folder", folder, allowed), unreported("diffusers"):
        pipeline = WanPipeline.from_pretrained(root, transformer=transformer.to(dtype), local_files_only=True, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, replace(spec, latents_mean=codec["latents_mean"], latents_std=codec["latents_std"])


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise BadValue("steps", steps, "a number of steps >= 1")
    return steps
