"""Phase 1 in a pipeline: generates keyframes from a prompt, window by window."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import torch

from interp_refiner.core import BadValue, ClipSpec, Draws
from interp_refiner.data.codec import Codec
from interp_refiner.model.keyframes import (
    Choice,
    KeyframeRequest,
    KeyframeSampler,
    KeyframeSource,
    Rescaled,
)
from interp_refiner.storyboard.conditioning.encoding import Encoded
from interp_refiner.storyboard.conditioning.prompts import Prompts
from interp_refiner.storyboard.file.keyframe import Keyframe, Time
from interp_refiner.storyboard.file.timeline import Grid, place
from interp_refiner.storyboard.plan.plan import Planner, VideoPlan, VideoSize
from interp_refiner.storyboard.plan.windows import Window

STREAM, KEY = "keyframes", "window"  # stream and key of their noise
DECLARED = ("name", "temporal_factor", "spatial_factor", "first_frame_alone")


@dataclass(frozen=True)
class Phase1:
    """A keyframe source, with the spec of its training clips.

    Attributes:
        source: makes keyframes of clips of ``spec``.
        spec: of the clips.
        count: K, the smallest number of keyframes per clip in the source's training; None for any.
        components: nodes that rebuild network, flow, sampler and choice of a trained source, as in
            :class:`PipelineConfig`; empty for other sources.
        trained: its origin, for the model card.
        asked: ``source`` adapted to a refiner's clips: :class:`Rescaled` around it; None for ``source`` itself.
        choice: how many samples are made, and how the best one is chosen.
    """

    source: KeyframeSource
    spec: ClipSpec
    count: int | None = None
    components: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    asked: KeyframeSource | None = None
    choice: Choice = field(default_factory=Choice)

    @property
    def fitted(self) -> KeyframeSource:
        """The source for clips of the refiner, or of its own kind if there is none."""
        return self.asked or self.source

    def of_clips(self, spec: ClipSpec) -> "Phase1":
        """The same source, adapted to a refiner of these clips; raises :class:`BadValue` as :func:`check_fit`."""
        check_fit(self.spec, spec)
        return replace(self, asked=Rescaled.between(self.source, self.spec, spec))

    def with_sampler(self, sampler: KeyframeSampler, node: Mapping[str, Any]) -> "Phase1":
        """The same network with another sampler, which ``node`` describes.

        Raises:
            BadValue: the source has its own scheduler.
        """
        source, components = self.source.with_sampler(sampler), {**self.components, "sampler": node}
        return replace(self, source=source, asked=None, components=components)

    def with_choice(self, choice: Choice, node: Mapping[str, Any]) -> "Phase1":
        """The same source with another choice among its samples, which ``node`` describes."""
        components = {**self.components, "choice": node} if self.components else {}
        return replace(self, choice=choice, components=components)

    def chosen(self, codec: Codec) -> KeyframeSource:
        """The source with the choice among its samples; ``codec`` makes the pictures by which it chooses."""
        return self.choice.among(self.fitted, codec.decode)

    def with_generated(
        self,
        planner: Planner,
        keyframes: Sequence[Keyframe],
        at: Sequence[Time] | None,
        size: VideoSize,
    ) -> list[Keyframe]:
        """The keyframes of a storyboard, plus generated ones at all times ``at`` whose latent slot is free.

        If ``at`` is None, evenly spread keyframes are generated if the storyboard has none; else none are generated.

        Raises:
            BadValue: a time outside the clip; names its index in ``keyframes_at``.
        """
        grid, rate = planner.grid(size.num_frames), planner.rate(size.fps)
        if at is None:
            at = [] if keyframes else spread(planner, grid, self.count)
        taken = {slot for placed in place(keyframes, grid, rate, planner.codec) for slot in placed.slots}
        made = list(keyframes)
        for index, time in enumerate(at):
            try:
                keyframe = Keyframe(generated=True, time=time, name="generated")
                slot = grid.slots[keyframe.at(grid.num_frames, rate)]
            except BadValue as error:
                raise BadValue(f"keyframes_at[{index}]", error.value, error.allowed) from None
            if slot not in taken:
                taken.add(slot)
                made.append(keyframe)
        return made

    def check(self, plan: VideoPlan, keyframes: Sequence[Keyframe]) -> None:
        """Raises :class:`BadValue` if there are given keyframes and the source cannot keep them."""
        if self.source.takes_given or not any(keyframe.generated for keyframe in keyframes):
            return
        if own := [keyframe for keyframe in keyframes if not keyframe.generated]:
            allowed = "only generated ones: this keyframe source cannot keep given keyframes"
            raise BadValue("keyframes", ", ".join(key.name or str(key.time) for key in own), allowed)
        if len(plan.parts) > 1:
            allowed = f"at most {plan.parts[0].length} latent frames: this source cannot continue from a keyframe"
            raise BadValue("frames", plan.grid.num_frames, allowed)

    def __call__(
        self, plan: VideoPlan, wanted: Iterable[int], encoded: Encoded, prompts: Prompts, draws: Draws, codec: Codec
    ) -> Encoded:
        """The keyframes of a storyboard, plus those in the latent frames ``wanted``, which the source generates.

        In the request for a window, all keyframes known so far are given: those of the storyboard and of earlier
        windows. So a window continues from the last keyframes of the window before. See :func:`requests`.
        """
        source, values, known = self.chosen(codec), encoded.values, encoded.known
        there = set(known[0].nonzero().flatten().tolist())
        for number, asked in enumerate(requests(plan, wanted, there, prompts.of_frame.tolist())):
            at = torch.tensor(asked.slots, device=values.device)
            request = KeyframeRequest(
                positions=(at - asked.part.start).unsqueeze(0),
                num_frames=asked.part.length,
                latents=values[:, :, at],
                given=known[:, at],
                text=None if prompts.texts is None else prompts.texts[asked.prompt : asked.prompt + 1],
                negative=None if prompts.negative is None else prompts.negative.unsqueeze(0),
                prompts=[prompts.words[asked.prompt] or ""],
                about=(prompts.of_frame.to(at.device)[at] == asked.prompt).unsqueeze(0),
            )
            values = values.index_copy(2, at, source(request, Draws(draws.seed, STREAM, [f"{KEY}_{number}"])))
            known = known.index_fill(1, at, True)
        return replace(encoded, values=values, known=known)


@dataclass(frozen=True)
class Asked:
    """One call of the source.

    Attributes:
        part: the window.
        prompt: index of the prompt.
        slots: latent frames of the keyframes, including those already known.
        free: number of keyframes that are not known yet.
    """

    part: Window
    prompt: int
    slots: list[int]
    free: int


def requests(plan: VideoPlan, wanted: Iterable[int], known: Iterable[int], prompt_of: Sequence[int]) -> list[Asked]:
    """The calls of the source, in order, that make the keyframes in the latent frames ``wanted``.

    There is one call per window of the plan, in time order. A window with several prompts has one call per prompt, in
    the order of their starts.
    """
    there, made = set(known), []
    for part in plan.parts:
        inside = range(part.start, part.stop)
        todo = sorted(slot for slot in wanted if slot in inside and slot not in there)
        for prompt in dict.fromkeys(prompt_of[slot] for slot in todo):
            new = [slot for slot in todo if prompt_of[slot] == prompt]
            there |= set(new)
            made.append(Asked(part, prompt, [slot for slot in inside if slot in there], len(new)))
    return made


def spread(planner: Planner, grid: Grid, count: int | None) -> list[Time]:
    """Times of evenly spread keyframes, including first and last frame, as dense as ``count`` in a training clip.

    Args:
        planner: of the refiner.
        grid: of the video.
        count: K; None for the number of the refiner's sparsest level.
    """
    last, of_clip = grid.latent_frames - 1, planner.latent_shape[1] - 1
    gaps = max(1, (planner.levels.counts[-1] if count is None else count) - 1)
    needed = 1 + max(1, ceil(last * gaps / of_clip)) if last else 1
    return [grid.span(int(slot)).start for slot in torch.linspace(0, last, needed).round().tolist()]


def check_fit(own: ClipSpec, wanted: ClipSpec) -> None:
    """Raises :class:`BadValue` if a source with clips ``own`` does not fit a refiner with clips ``wanted``.

    The statistics may differ, see :class:`Rescaled`.
    """
    if own.latent_shape != wanted.latent_shape:
        allowed = f"a source of clips {list(wanted.latent_shape)}"
        raise BadValue("keyframes", list(own.latent_shape), allowed)
    found, needed = (f"{spec.text.get('name', 'prompts')} {list(spec.text_shape or [])}" for spec in (own, wanted))
    if found != needed:
        raise BadValue("keyframes", found, f"a source that reads prompts of {needed}")
    for name in DECLARED:
        if own.codec.get(name) != wanted.codec.get(name):
            allowed = f"a source of latents with {name}={wanted.codec.get(name)}"
            raise BadValue("keyframes", f"{name}={own.codec.get(name)}", allowed)
