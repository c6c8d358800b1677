"""A diffusers-style pipeline of a refiner: from keyframes to a video."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.core import BadValue, Corrupted, choice
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import (
    ClassifierFree,
    CleanEstimate,
    Guidance,
    NoGuidance,
    OneJump,
    OneView,
    Sampler,
    check_views,
)
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.conditioning.prompts import OnStep, Prompts, counted, prompted, strengths, with_proposals
from interp_refiner.storyboard.file.keyframe import Keyframe, Time
from interp_refiner.storyboard.file.storyboard import naming
from interp_refiner.storyboard.pipeline.arguments import (
    Embedding,
    OutputType,
    RefinerOutput,
    Request,
    as_output,
    at_least_one,
    of_steps,
    prompt_or_embedding,
    seed_of,
)
from interp_refiner.storyboard.pipeline.drafting import Drafting
from interp_refiner.storyboard.pipeline.low_memory import LowMemory
from interp_refiner.storyboard.plan.levels import Levels
from interp_refiner.storyboard.plan.plan import VideoPlan, VideoSize
from interp_refiner.storyboard.plan.windows import CrossFaded
from interp_refiner.storyboard.saved.components import (
    Components,
    PipelineConfig,
    load_components,
    save_components,
)
from interp_refiner.training import check_method, sampler_notes
from interp_refiner.training.checkpoint import located
from interp_refiner.training.perceptual import PERCEPTUAL

OnStepEnd = Callable[["RefinerPipeline", int, float, dict[str, Any]], dict[str, Any]]


class RefinerPipeline(LowMemory, Drafting):
    """A trained refiner with all components to make a video from keyframes.

        pipe = RefinerPipeline.from_pretrained("exported").to("cuda")
        first, last = Keyframe(image=a, time=0), Keyframe(image=b, time="100%", strength=0.7)
        frames = pipe("a red ball rolls to the left", keyframes=[first, last], num_inference_steps=4).frames

    Args:
        components: backbone, objective, sampler, corruption, codec and text encoder.
        config: describes the training clips, and how to rebuild the components.
    """

    def __init__(self, components: Components, config: PipelineConfig):
        self.backbone: Backbone = components.backbone.eval()
        self.objective: Objective = components.objective.eval()
        self.sampler: Sampler = components.sampler
        self.own_sampler = components.sampler
        self.codec: Codec = components.codec
        self.text: TextEncoder | None = components.text
        self.config = config
        self.corruption: Corruption = copy.copy(components.corruption)
        self.levels = Levels(self.corruption.schedule.counts_for(config.spec.num_frames))
        self.corruption.noise = self.corruption.noise.of_clips(config.spec.num_frames)
        self.phase1: Phase1 | None = components.phase1
        self.divisor, self.device = self.backbone.divisor, torch.device("cpu")
        self.progress: dict[str, Any] = {}

    @classmethod
    def from_pretrained(cls, folder: str | Path, torch_dtype: torch.dtype = torch.float32) -> "RefinerPipeline":
        """Loads a pipeline that :meth:`save_pretrained` wrote; raises :class:`BadValue` if there is none.

        Args:
            folder: a path, a model of the hub, or the name of weights in the package: ``shipped``,
                ``shipped_one_step`` or ``shipped_camera``.
            torch_dtype: see :meth:`to`.
        """
        pipeline = cls(*load_components(located(folder)))
        return pipeline if torch_dtype == torch.float32 else pipeline.to(torch_dtype)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes weights, settings and a model card; ``transformer/`` is a ``WanTransformer3DModel`` of diffusers.

        A keyframe generator is written to ``keyframes/``.

        Raises:
            BadValue: the matrices are quantised: a folder holds plain floats.
        """
        if self.quantised is not None:
            raise BadValue("quantised", self.quantised, "null to save: quantise after loading")
        own = (self.backbone, self.objective, self.sampler, self.corruption, self.codec, self.text, self.phase1)
        return save_components(Components(*own), self.config, Path(folder).expanduser())

    def with_component(self, name: str, component: Any, node: dict[str, Any]) -> "RefinerPipeline":
        """The same pipeline with another sampler, codec or text encoder.

        Args:
            name: name of the component.
            component: the new one, made for the pipeline's clips.
            node: the config node that rebuilds it.
        """
        other = copy.copy(self)
        setattr(other, name, component)
        other.config = replace(self.config, components={**self.config.components, name: node})
        if name == "codec" and not component.caveat:
            other.corruption = self.corruption.with_codec(component)
        return other

    def with_keyframes(self, phase1: Phase1) -> "RefinerPipeline":
        """The same pipeline with a keyframe source; raises :class:`BadValue` for a source of other clips."""
        other = copy.copy(self)
        other.phase1 = phase1.of_clips(self.config.spec)
        return other

    def set_progress_bar_config(self, **settings: Any) -> None:
        """Arguments of tqdm, such as ``disable=True``."""
        self.progress = settings

    def clean_estimate(self, corrupted: Corrupted) -> Float[Tensor, "b c t y x"]:
        """``z0_hat`` of the model, without guidance."""
        return self.objective.clean_estimate(self.backbone(corrupted), corrupted)

    def __call__(
        self,
        prompt: str | None = None,
        keyframes: Sequence[Keyframe] = (),
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        keyframes_at: Sequence[Time] | None = None,
        num_inference_steps: int | None = None,
        negative_prompt: str | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | int | None = 0,
        prompt_embeds: Embedding | None = None,
        negative_prompt_embeds: Embedding | None = None,
        output_type: OutputType = "pil",
        callback_on_step_end: OnStepEnd | None = None,
    ) -> RefinerOutput:
        """Makes a video that keeps its hard keyframes. The arguments are named as in diffusers; see :meth:`make`.

        Args:
            prompt: for the frames before the first keyframe that has a prompt; None and "" mean no prompt. A warning
                names the words that the model does not know.
            keyframes: pictures of another size are fitted, see :class:`Keyframe`. If there are none and a keyframe
                source is loaded, they are generated from the prompt.
            num_frames, height, width, fps: size and rate of the video; None for those of the model's clips.
            keyframes_at: times at which the prompt generates a keyframe, unless there is one. None: evenly spread ones
                if ``keyframes`` is empty, else none.
            num_inference_steps: 1 for the mean (one jump), more for a sample along the bridge. For a distilled model, 1
                gives a sample, too. None for the model's own sampler.
            negative_prompt: guidance leads away from it; a warning says if it has no effect.
            guidance_scale: ``w`` of :func:`classifier_free`, 1 for none; None for the guidance of the model's sampler.
            generator: only its seed is used: the same seed gives the same video. None: a new video every time.
            prompt_embeds, negative_prompt_embeds: ``[L, D]`` or ``[1, L, D]`` as in training, instead of the prompts;
                then no text encoder is needed.
            output_type: type of the returned frames.
            callback_on_step_end: called as ``f(pipe, step, tau, {"latents": x, "clean_estimate": z0_hat})`` after every
                clean estimate; an estimate that it returns replaces ``z0_hat``.

        Raises:
            BadValue: keyframes that do not fit, sizes that codec and backbone do not support, steps that the corruption
                does not allow, prompts without a text encoder, both a prompt and its embedding, or neither keyframes
                nor a prompt.
        """
        trained = self.config.spec.text_shape
        request = Request(
            prompt=prompt_or_embedding("prompt", prompt, prompt_embeds, trained),
            keyframes=keyframes,
            size=VideoSize(at_least_one("num_frames", num_frames, "that of the model's clips"), height, width, fps),
            keyframes_at=keyframes_at,
            negative_prompt=prompt_or_embedding("negative_prompt", negative_prompt, negative_prompt_embeds, trained),
            seed=seed_of(generator),
        )
        guidance, advice = self.guidance(guidance_scale, request.negative_prompt), "set guidance_scale, such as 2.0"
        ineffective = self.negative_notes(request, guidance, self.objective.distilled, advice)
        for note in [*self.prompt_notes(request), *ineffective, *self.sampler_notes(num_inference_steps)]:
            warnings.warn(note, stacklevel=2)
        with naming("num_frames", "frames", only=["frames"]):
            return self.make(request, num_inference_steps, guidance_scale, output_type, callback_on_step_end)

    @torch.no_grad()
    def make(
        self,
        request: Request,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        output_type: OutputType = "pil",
        callback_on_step_end: OnStepEnd | None = None,
    ) -> RefinerOutput:
        """Makes the video of a request; arguments and errors are those of a call."""
        choice("output_type", output_type, get_args(OutputType))
        sampler = self._sampler(num_inference_steps)
        guidance = self.guidance(guidance_scale, request.negative_prompt)
        check_views(self.sampler.views, guidance)
        draft = self.draft(request)
        plan, keyframes, corrupted = draft.plan, draft.keyframes, draft.corrupted
        faded = CrossFaded(self._estimates(plan, draft.prompts, guidance), plan.parts, self.levels)
        estimate = with_proposals(faded, corrupted.values, strengths(plan, keyframes, self.trust).to(self.device))
        steps = sampler.evaluations(corrupted.plan.num_levels)
        with tqdm(**{"total": steps + 1, "desc": "refining", "unit": "step", **self.progress}) as progress:
            told = counted(estimate, self._on_step(progress, callback_on_step_end))
            latents = sampler(told, corrupted, draft.draws, self.corruption)
            progress.set_description("decoding")
            self.before_decoding()
            frames = latents if output_type == "latent" else as_output(self.decode(latents), output_type)
            progress.update()
        self.free_hooks()
        return RefinerOutput(
            frames=frames,
            latents=latents,
            keyframes=keyframes,
            values=corrupted.values,
            interpolation=corrupted.interpolation,
            known=corrupted.known,
            given=corrupted.given,
            plan=plan,
            disagreement=[None if rms is None else float(rms) for rms in faded.disagreement],
        )

    def guidance(self, scale: float | None, negative_prompt: str | Embedding = "") -> Guidance:
        """The sampler's guidance, or classifier-free guidance with another scale or negative prompt (or embedding).

        A negative prompt takes precedence over the sampler's own file; without both it is the empty prompt.
        """
        if scale is not None and not 0 <= scale < inf:
            raise BadValue("guidance_scale", scale, "a number >= 0; 1 is no guidance")
        if scale is not None and scale != 1 and self.objective.distilled:
            raise BadValue(
                "guidance_scale", scale, "1 or none with a distilled model: it learned its teacher's guidance"
            )
        own = self.sampler.guidance
        if scale is not None:
            file = own.negative.path if isinstance(own, ClassifierFree) else None
            own = NoGuidance() if scale == 1 else ClassifierFree(scale, file)
        if not isinstance(own, ClassifierFree):
            return own
        if own.negative.path and isinstance(negative_prompt, str) and not negative_prompt:
            return own
        negative = self._negative(negative_prompt)
        return own if negative is None else own.away_from(negative)

    def _on_step(self, progress: Any, callback: OnStepEnd | None) -> OnStep:
        def on_step(step: int, state: Corrupted, made: Tensor) -> Tensor:
            progress.update()
            if callback is None:
                return made
            tensors = {"latents": state.x, "clean_estimate": made}
            return (callback(self, step, float(state.tau[0]), tensors) or {}).get("clean_estimate", made)

        return on_step

    def _estimates(self, plan: VideoPlan, prompts: Prompts, guidance: Guidance) -> list[CleanEstimate]:
        """The clean estimate of every window, with the prompts of its frames."""
        model = guidance(self.sampler.views(self.clean_estimate, self.corruption.reflections))
        if prompts.texts is None:
            return [model for _ in plan.parts]
        return [prompted(model, prompts.texts, prompts.of_frame[part.start : part.stop]) for part in plan.parts]

    def sampler_notes(self, steps: int | None = None) -> list[str]:
        """Where the sampler differs from what the model was trained or evaluated for; ``steps`` as of a call."""
        sampler = of_steps(self.sampler, steps, self.objective.distilled)
        perceptual = self.config.trained.get(PERCEPTUAL) is not None
        notes = sampler_notes(self.objective, sampler, self.corruption, perceptual)
        own = self.own_sampler
        if isinstance(own, OneJump) and isinstance(sampler, OneJump) and sampler.strength > own.strength:
            notes.append(f"sampler.strength={sampler.strength:g}: the model's own sampler has {own.strength:g}")
        return notes

    def _sampler(self, steps: int | None) -> Sampler:
        sampler = copy.copy(of_steps(self.sampler, steps, self.objective.distilled))
        check_method(self.corruption, self.objective, sampler)
        # both are applied per window and prompt, before they are joined
        sampler.guidance, sampler.views = NoGuidance(), OneView()
        return sampler
