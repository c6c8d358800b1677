"""The part of a pipeline before its refiner: from keyframes to an interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Clip, Corrupted, Draws
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.sampler import ClassifierFree, Guidance
from interp_refiner.storyboard.conditioning.encoding import encode_keyframes, fit_notes
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.conditioning.prompts import Prompts, prompts_of
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.pipeline.arguments import Embedding, Request
from interp_refiner.storyboard.plan.levels import Levels
from interp_refiner.storyboard.plan.plan import OF_CLIPS, Planner, VideoPlan, VideoSize
from interp_refiner.storyboard.saved.components import PipelineConfig

KEY, STREAM = "storyboard", "sample"  # random draws are derived from these and the seed

LISTED_WORDS = 200  # a note lists the words that the model knows, unless there are more

GENERATORS = "keyframes=<run, exported folder or shipped>"


@dataclass(frozen=True)
class Draft:
    """The result of :meth:`Drafting.draft`, the input of the refiner.

    Attributes:
        plan: of the video.
        keyframes: those of the caller, and the generated ones.
        prompts: of all frames.
        draws: random draws of the video.
        corrupted: interpolation of the keyframes, with noise.
    """

    plan: VideoPlan
    keyframes: list[Keyframe]
    prompts: Prompts
    draws: Draws
    corrupted: Corrupted


class Drafting:
    """The part of a pipeline before the refiner: keyframes from a storyboard and a prompt, and their interpolation.

    Attributes:
        config: describes the clips that the refiner was trained on.
        backbone: the refiner's network.
        codec, text: encode pictures and prompts; ``text`` is None if prompts come as embeddings.
        corruption: interpolates and draws noise.
        levels: number of keyframes at each level in training.
        phase1: generates keyframes from prompts; None if the caller gives all of them.
        divisor: heights and widths of latents must be divisible by it.
        device: of the networks.
    """

    config: PipelineConfig
    backbone: Backbone
    codec: Codec
    text: TextEncoder | None
    corruption: Corruption
    levels: Levels
    phase1: Phase1 | None
    divisor: tuple[int, int]
    device: torch.device

    @property
    def planner(self) -> Planner:
        """Places keyframes on this model's latent grid, before anything is sampled."""
        return Planner(
            codec=self.codec,
            latent_shape=self.config.spec.latent_shape,
            levels=self.levels,
            fps=self.config.fps,
            divisor=self.divisor,
            replaces=self.corruption.scheduled_sampling.replaces,
        )

    @property
    def trust(self) -> float:
        """The default strength of generated keyframes, see :class:`Keyframe`."""
        return 0.0 if self.corruption.scheduled_sampling.replaces else 1.0

    def planned(self, request: Request, collide: bool = False) -> tuple[list[Keyframe], VideoPlan]:
        """The keyframes, including those to be generated, and the plan of the video.

        Args:
            request: the video.
            collide: whether to allow several keyframes in one slot, to show the plan.

        Raises:
            BadValue: as a call of the pipeline.
        """
        made, at = list(request.keyframes), request.keyframes_at
        if self.phase1 is not None:
            made = self.phase1.with_generated(self.planner, request.keyframes, at, request.size)
        elif at is not None:
            raise BadValue("keyframes_at", at, f"null: there is no keyframe source ({GENERATORS} sets one)")
        elif not made:
            raise BadValue("keyframes", [], f"at least one keyframe, or a keyframe generator ({GENERATORS})")
        for index, keyframe in enumerate(made if self.phase1 is None else []):
            if keyframe.generated:
                allowed = f"false: there is no keyframe source ({GENERATORS} sets one)"
                raise BadValue(f"keyframes[{index}].generated", True, allowed)
        plan = self.planner.plan(made, request.size, collide)
        if self.phase1 is not None:
            self.phase1.check(plan, made)
        return made, plan

    @torch.no_grad()
    def draft(self, request: Request) -> Draft:
        """The input of refinement: encoded and generated keyframes, interpolation, noise.

        The refiner's network is not run. Raises as a call of the pipeline.
        """
        silent = isinstance(request.prompt, str) and not request.prompt
        if silent and not request.keyframes and self.phase1 is not None:
            raise BadValue("prompt", None, "what the video shows, or keyframes")
        made, plan = self.planned(request)
        rows, columns = (side * self.codec.spatial_factor for side in plan.latent_shape[2:])
        plan = replace(plan, notes=[*plan.notes, *fit_notes(made, columns, rows)])
        prompts, draws = self._prompts(plan, made, request.prompt), Draws(request.seed, STREAM, [KEY])
        encoded, wanted = encode_keyframes(self.codec, plan, made, self.device)
        if wanted and self.phase1 is not None:
            away = replace(prompts, negative=self._negative(request.negative_prompt))
            encoded = self.phase1(plan, wanted, encoded, away, draws, self.codec)
        level = torch.full((1,), plan.level, device=self.device)
        clip, keyframe_plan = Clip(encoded.values, [KEY]), self.levels.plan(encoded.known, encoded.given)
        return Draft(
            plan=plan,
            keyframes=made,
            prompts=prompts,
            draws=draws,
            corrupted=self.corruption.of_keyframes(clip, keyframe_plan, level, draws),
        )

    @torch.no_grad()
    def interpolate(self, keyframes: Sequence[Keyframe], size: VideoSize = OF_CLIPS) -> Float[Tensor, "3 n h w"]:
        """The decoded interpolation ``zbar`` of the keyframes. Raises as :meth:`draft`."""
        return self.decode(self.draft(Request(keyframes=keyframes, size=size)).corrupted.interpolation)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "1 c t y x"], like: Float[Tensor, "1 c t y x"] | None = None
    ) -> Float[Tensor, "3 n h w"]:
        """RGB in 0..1, on the host; a preview codec uses the colours of the video ``like`` (None: its own)."""
        return self.codec.fitted_to(latents if like is None else like).decode(latents)[0].float().cpu()

    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "p l d"] | None:
        """Prompt embeddings; without an encoder, zeros for empty prompts; None for a model without text."""
        shape = self.config.spec.text_shape
        if self.text is not None:
            return self.text.encode(prompts).to(self.device, torch.float32)
        if any(prompts):
            allowed = "no prompt: this model has no text encoder (text=umt5 text.folder=<folder> sets one)"
            raise BadValue("prompt", next(filter(None, prompts)), allowed)
        return None if shape is None else torch.zeros(len(prompts), *shape, device=self.device)

    def prompt_notes(self, request: Request) -> list[str]:
        """Notes on the parts of a request's prompts that the model cannot use."""
        ignored = self.backbone.ignores_text and any(request.words.values())
        notes = ["the refiner ignores prompts: no training clip had a caption"] if ignored else []
        if self.text is None:
            return notes
        notes += [f"{name}: {note}" for name, prompt in request.words.items() for note in self.text.notes(prompt)]
        if len(self.text.vocabulary) <= LISTED_WORDS and any(map(self.text.unknown, request.words.values())):
            notes.append(f"the model knows the words {', '.join(self.text.vocabulary)}")
        return notes

    def negative_notes(self, request: Request, guidance: Guidance, distilled: bool, advice: str) -> list[str]:
        """A note if a request's negative prompt has no effect.

        Args:
            request: with or without a negative prompt.
            guidance: of the refiner.
            distilled: whether the refiner is a distilled model.
            advice: how to turn guidance on.
        """
        if not request.has_negative or isinstance(guidance, ClassifierFree):
            return []
        if self.phase1 is not None and self.phase1.source.guided:  # the prompt guides generated keyframes, too
            keyframes, _ = self.planned(request)
            if any(keyframe.generated for keyframe in keyframes):
                return []
        if distilled:
            return ["negative_prompt has no effect with a distilled model: it learned its teacher's guidance"]
        return [f"negative_prompt has no effect without guidance; {advice}"]

    def _negative(self, prompt: str | Embedding) -> Float[Tensor, "l d"] | None:
        """The embedding of a negative prompt; None for a model without text."""
        if isinstance(prompt, Tensor):
            return prompt.to(self.device)
        embedded = self.embed([prompt])
        return None if embedded is None else embedded[0]

    def _prompts(self, plan: VideoPlan, keyframes: Sequence[Keyframe], prompt: str | Embedding) -> Prompts:
        """The embeddings of the prompts of all frames."""
        words, of_frame = prompts_of(plan, keyframes, prompt if isinstance(prompt, str) else None)
        texts = self.embed([text or "" for text in words])
        if texts is not None and isinstance(prompt, Tensor):
            texts[0] = prompt
        return Prompts(texts, torch.tensor(of_frame, device=self.device), words)
