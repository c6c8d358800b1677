"""Keyframes in, a video out: the refiner in the style of diffusers' pipelines."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.core import BadValue, Clip, Corrupted, Draws, choice
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import Bridge, ClassifierFree, CleanEstimate, Guidance, NoGuidance, OneJump, Sampler
from interp_refiner.storyboard.arguments import (
    Embedding,
    OutputType,
    RefinerOutput,
    as_output,
    prompt_or_embedding,
    seed_of,
)
from interp_refiner.storyboard.conditioning import (
    OnStep,
    Prompts,
    counted,
    prompted,
    prompts_of,
    strengths,
    with_proposals,
)
from interp_refiner.storyboard.encoding import Encoded, encode_keyframes, fit_notes
from interp_refiner.storyboard.keyframe import Keyframe, Time
from interp_refiner.storyboard.levels import Levels
from interp_refiner.storyboard.phase1 import Phase1
from interp_refiner.storyboard.plan import Planner, VideoPlan
from interp_refiner.storyboard.saved import Components, PipelineConfig, load_components, save_components
from interp_refiner.storyboard.windows import CrossFaded
from interp_refiner.training import check_method
from interp_refiner.training.checkpoint import located

OnStepEnd = Callable[["RefinerPipeline", int, float, dict[str, Any]], dict[str, Any]]
KEY, STREAM = "storyboard", "sample"  # what randomness is derived from, beside the seed


class RefinerPipeline:
    """A trained refiner with everything that it takes to make a video of keyframes.

        pipe = RefinerPipeline.from_pretrained("exported").to("cuda")
        first, last = Keyframe(image=a, time=0), Keyframe(image=b, time="100%", strength=0.7)
        frames = pipe("a red ball rolls to the left", keyframes=[first, last], num_inference_steps=4).frames

    Args:
        components: backbone, objective, sampler, corruption, codec and text encoder.
        config: the clips that the model was trained on, and how to build its components again.
    """

    def __init__(self, components: Components, config: PipelineConfig):
        self.backbone: Backbone = components.backbone.eval()
        self.objective: Objective = components.objective.eval()
        self.sampler: Sampler = components.sampler
        self.codec: Codec = components.codec
        self.text: TextEncoder | None = components.text
        self.config = config
        self.corruption: Corruption = copy.copy(components.corruption)
        self.levels = Levels(self.corruption.schedule.counts_for(config.spec.num_frames))
        self.corruption.noise = self.corruption.noise.of_clips(config.spec.num_frames)
        self.phase1: Phase1 | None = components.phase1
        self.device = torch.device("cpu")
        self.progress: dict[str, Any] = {}

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "RefinerPipeline":
        """The pipeline that :meth:`save_pretrained` wrote; raises :class:`BadValue` where there is none.

        ``from_pretrained("shipped")`` is the one that comes with the package.
        """
        return cls(*load_components(located(folder)))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes weights, settings and a model card; ``transformer/`` is a ``WanTransformer3DModel`` of diffusers.

        A generator of keyframes lies in ``keyframes/``.
        """
        own = (self.backbone, self.objective, self.sampler, self.corruption, self.codec, self.text, self.phase1)
        return save_components(Components(*own), self.config, Path(folder).expanduser())

    def with_component(self, name: str, component: Any, node: dict[str, Any]) -> "RefinerPipeline":
        """The same pipeline with another sampler, codec or text encoder.

        Args:
            name: which of them.
            component: the new one, made for the pipeline's clips.
            node: how to build it again.
        """
        other = copy.copy(self)
        setattr(other, name, component)
        other.config = replace(self.config, components={**self.config.components, name: node})
        if name == "codec" and not component.caveat:
            other.corruption = copy.copy(self.corruption)
            other.corruption.interpolator = self.corruption.interpolator.with_codec(component)
        return other

    def with_keyframes(self, phase1: Phase1) -> "RefinerPipeline":
        """The same pipeline with a source of keyframes; raises :class:`BadValue` for one of other clips."""
        other = copy.copy(self)
        other.phase1 = phase1.of_clips(self.config.spec)
        return other

    def to(self, device: torch.device | str) -> "RefinerPipeline":
        """Moves the networks; returns itself."""
        self.device = torch.device(device)
        for module in (self.backbone, self.objective, self.codec):
            module.to(self.device)
        if self.phase1 is not None:
            self.phase1.source.to(self.device)
        return self

    def set_progress_bar_config(self, **settings: Any) -> None:
        """Arguments of tqdm, such as ``disable=True``."""
        self.progress = settings

    @property
    def planner(self) -> Planner:
        """Places keyframes on this model's latent grid, before anything is sampled."""
        return Planner(
            codec=self.codec,
            latent_shape=self.config.spec.latent_shape,
            levels=self.levels,
            fps=self.config.fps,
            divisor=self.backbone.divisor,
            replaces=self.corruption.scheduled_sampling.replaces,
        )

    def clean_estimate(self, corrupted: Corrupted) -> Float[Tensor, "b c t y x"]:
        """``z0_hat`` of the model itself."""
        return self.objective.clean_estimate(self.backbone(corrupted), corrupted)

    @torch.no_grad()
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
        """Makes a video that keeps its hard keyframes.

        Args:
            prompt: for the frames before the first keyframe with a prompt of its own; None and "" say nothing.
            keyframes: pictures of another size are fitted, see :class:`Keyframe`. Without any, and where a source of
                keyframes is loaded, the prompt makes them.
            num_frames, height, width, fps: pixels and frames of the video; None for those of the model's clips.
            keyframes_at: times at which the prompt makes a keyframe, unless one is there; None for none beside
                ``keyframes``, and without these for evenly spread ones.
            num_inference_steps: 1 for the mean (one jump), more for a sample along the bridge; None for the sampler
                that the model comes with.
            negative_prompt: what guidance leads away from.
            guidance_scale: ``w`` of :func:`classifier_free`, 1 for none; None for the guidance of the model's sampler.
            generator: only its seed counts: the same seed gives the same video. None: another video every time.
            prompt_embeds, negative_prompt_embeds: ``[L, D]`` or ``[1, L, D]`` as trained on, in place of the prompts;
                no text encoder is needed then.
            output_type: of the frames.
            callback_on_step_end: called as ``f(pipe, step, tau, {"latents": x, "clean_estimate": z0_hat})`` after every
                clean estimate; an estimate that it returns takes the place of ``z0_hat``.

        Raises:
            BadValue: for keyframes that do not fit, sizes that codec and backbone cannot divide, steps that the
                corruption does not allow, prompts without a text encoder, both a prompt and its embedding, or neither
                keyframes nor a prompt.
        """
        choice("output_type", output_type, get_args(OutputType))
        if not keyframes and prompt_embeds is None and not prompt and self.phase1 is not None:
            raise BadValue("prompt", prompt, "what the video shows, or keyframes")
        keyframes, plan = self.planned(keyframes, num_frames, height, width, fps, keyframes_at)
        rows, columns = (side * self.codec.spatial_factor for side in plan.latent_shape[2:])
        plan = replace(plan, notes=[*plan.notes, *fit_notes(keyframes, columns, rows)])
        base = prompt_or_embedding("prompt", prompt, prompt_embeds, self.config.spec.text_shape)
        negative = prompt_or_embedding(
            "negative_prompt", negative_prompt, negative_prompt_embeds, self.config.spec.text_shape
        )
        sampler, guidance = self._sampler(num_inference_steps), self.guidance(guidance_scale, negative)
        draws = Draws(seed_of(generator), STREAM, [KEY])
        prompts = self._prompts(plan, keyframes, base)
        corrupted = self.corrupt(plan, self._encoded(plan, keyframes, prompts, negative, draws), draws)
        faded = CrossFaded(self._estimates(plan, prompts, guidance), plan.parts, self.levels)
        estimate = with_proposals(faded, corrupted.values, strengths(plan, keyframes, self._untold).to(self.device))
        steps = sampler.evaluations(corrupted.plan.num_levels)
        with tqdm(**{"total": steps + 1, "desc": "refining", "unit": "step", **self.progress}) as progress:
            told = counted(estimate, self._on_step(progress, callback_on_step_end))
            latents = sampler(told, corrupted, draws, self.corruption)
            progress.set_description("decoding")
            frames = latents if output_type == "latent" else as_output(self.decode(latents), output_type)
            progress.update()
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

    def planned(
        self,
        keyframes: Sequence[Keyframe],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        keyframes_at: Sequence[Time] | None = None,
        collide: bool = False,
    ) -> tuple[list[Keyframe], VideoPlan]:
        """The keyframes with those that the prompt is to make, and the plan of the video; raises as a call."""
        made = list(keyframes)
        if self.phase1 is not None:
            made = self.phase1.with_generated(self.planner, keyframes, keyframes_at, num_frames, fps)
        elif keyframes_at is not None or any(keyframe.generated for keyframe in keyframes):
            allowed = "null: there is no source of keyframes (keyframes=<generator> names one)"
            raise BadValue("keyframes_at", keyframes_at, allowed)
        plan = self.planner.plan(made, num_frames, height, width, fps, collide)
        if self.phase1 is not None:
            self.phase1.check(plan, made)
        return made, plan

    def corrupt(self, plan: VideoPlan, encoded: Encoded, draws: Draws) -> Corrupted:
        """The clip that sampling starts from: interpolation of the keyframes, and noise."""
        level = torch.full((1,), plan.level, device=self.device)
        keyframe_plan = self.levels.plan(encoded.known, encoded.given)
        return self.corruption.of_keyframes(Clip(encoded.values, [KEY]), keyframe_plan, level, draws)

    @torch.no_grad()
    def interpolate(
        self,
        keyframes: Sequence[Keyframe],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
    ) -> Float[Tensor, "3 t h w"]:
        """The decoded interpolation ``zbar`` of the keyframes; no network is run. Raises as a call."""
        plan = self.planner.plan(keyframes, num_frames, height, width, fps)
        encoded, _ = encode_keyframes(self.codec, plan, keyframes, self.device)
        return self.decode(self.corrupt(plan, encoded, Draws(0, STREAM, [KEY])).interpolation)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "1 c t y x"], like: Float[Tensor, "1 c t y x"] | None = None
    ) -> Float[Tensor, "3 t h w"]:
        """RGB in 0..1, on the host; a preview codec shows it in the colours of the video ``like``, None for its own."""
        return self.codec.fitted_to(latents if like is None else like).decode(latents)[0].float().cpu()

    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "p l d"] | None:
        """Prompt embeddings; of empty prompts zeros where there is no encoder, None for a model without text."""
        shape = self.config.spec.text_shape
        if self.text is not None:
            return self.text.encode(prompts).to(self.device, torch.float32)
        if any(prompts):
            allowed = "no prompt: this model has no text encoder (text=umt5 text.folder=<folder> names one)"
            raise BadValue("prompt", next(filter(None, prompts)), allowed)
        return None if shape is None else torch.zeros(len(prompts), *shape, device=self.device)

    def guidance(self, scale: float | None, negative_prompt: str | Embedding = "") -> Guidance:
        """That of the sampler, or classifier-free with another scale, away from the negative prompt or its embedding.

        A negative prompt counts before the sampler's file of one; without either it is the empty prompt.
        """
        if scale is not None and not 0 <= scale < inf:
            raise BadValue("guidance_scale", scale, "a number >= 0; 1 is no guidance")
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

    def _negative(self, prompt: str | Embedding) -> Float[Tensor, "l d"] | None:
        """The embedding of a negative prompt; None for a model without text."""
        if isinstance(prompt, Tensor):
            return prompt.to(self.device)
        embedded = self.embed([prompt])
        return None if embedded is None else embedded[0]

    def _on_step(self, progress: Any, callback: OnStepEnd | None) -> OnStep:
        def on_step(step: int, state: Corrupted, made: Tensor) -> Tensor:
            progress.update()
            if callback is None:
                return made
            tensors = {"latents": state.x, "clean_estimate": made}
            return (callback(self, step, float(state.tau[0]), tensors) or {}).get("clean_estimate", made)

        return on_step

    def _prompts(self, plan: VideoPlan, keyframes: Sequence[Keyframe], prompt: str | Embedding) -> Prompts:
        """The embeddings of the prompts of all frames."""
        words, of_frame = prompts_of(plan, keyframes, prompt if isinstance(prompt, str) else None)
        texts = self.embed([text or "" for text in words])
        if texts is not None and isinstance(prompt, Tensor):
            texts[0] = prompt
        return Prompts(texts, torch.tensor(of_frame, device=self.device))

    def _encoded(
        self, plan: VideoPlan, keyframes: Sequence[Keyframe], prompts: Prompts, negative: str | Embedding, draws: Draws
    ) -> Encoded:
        """All keyframes as latents: those that were handed over, and those that the prompt makes."""
        encoded, wanted = encode_keyframes(self.codec, plan, keyframes, self.device)
        if not wanted or self.phase1 is None:
            return encoded
        return self.phase1(plan, wanted, encoded, replace(prompts, negative=self._negative(negative)), draws)

    def _estimates(self, plan: VideoPlan, prompts: Prompts, guidance: Guidance) -> list[CleanEstimate]:
        """The clean estimate of every window, under the prompts of its frames."""
        model = guidance(self.clean_estimate)
        if prompts.texts is None:
            return [model for _ in plan.parts]
        return [prompted(model, prompts.texts, prompts.of_frame[part.start : part.stop]) for part in plan.parts]

    @property
    def _untold(self) -> float:
        """The strength of generated keyframes for which none is said, see :class:`Keyframe`."""
        return 0.0 if self.corruption.scheduled_sampling.replaces else 1.0

    def _sampler(self, steps: int | None) -> Sampler:
        sampler = copy.copy(self.sampler)
        if steps is not None:
            bridge = sampler if isinstance(sampler, Bridge) else Bridge()
            sampler = OneJump() if steps == 1 else bridge.of_steps(steps)
        sampler.guidance = NoGuidance()  # every window and prompt is guided on its own, before they are joined
        check_method(self.corruption, self.objective, sampler)
        return sampler
