"""The forward process: keyframes, interpolation, noise (docs/method.md, Corruption)."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import (
    BadValue,
    Clip,
    Corrupted,
    Draws,
    KeyframePlan,
    Reflection,
    neighbours,
    non_negative,
    per_frame,
    per_sample,
)
from interp_refiner.forward.corruption.bridge_time import FullyCorrupted
from interp_refiner.forward.corruption.content import Blank, ClipContent
from interp_refiner.forward.corruption.drawn import Drawn
from interp_refiner.forward.corruption.given import NoGiven
from interp_refiner.forward.corruption.noise import NoiseProfile
from interp_refiner.forward.interpolator import Interpolator, PixelCodec
from interp_refiner.forward.schedule import Schedule
from interp_refiner.forward.scheduled_sampling import Never, Proposals, ScheduledSampling

TRAIN_STREAM = "train"


class Corruption:
    """Draws a plan, a level, a bridge time and noise for every sample and renders

        x = (1 - tau) z0 + tau (zbar + sigma m g eps)   on every frame that is not given
        x = value, bit for bit                          on given frames

    All draws are functions of (seed, stream, epoch, key), see :class:`Draws`. Outside the training stream ``tau = 1``,
    where sampling starts.

    Args:
        schedule: which frames are keyframes at which level.
        interpolator: rebuilds a sequence from its known frames.
        noise: the noise profile ``m``, the local scale ``g`` and the distribution of ``eps``.
        scheduled_sampling: which keyframes are replaced by proposals; None for never.
        drawn: level, bridge time and given frames of a sample.
        sigma: noise amplitude, in units of latent standard deviation (with a local scale ``g``: in units of ``g``).
        keyframe_fraction: ``m`` on known frames that are not given.

    Attributes:
        reflections: mirror operations on the latents along x and y; empty if the codec has none or is not known.

    Raises:
        BadValue: a ``sigma`` that is negative or not finite, a ``keyframe_fraction`` outside 0..1, or a bridge without
            noise.
    """

    def __init__(
        self,
        schedule: Schedule,
        interpolator: Interpolator,
        noise: NoiseProfile,
        scheduled_sampling: ScheduledSampling | None = None,
        drawn: Drawn = Drawn(),  # noqa: B008 - frozen
        sigma: float = 0.3,
        keyframe_fraction: float = 0.0,
    ):
        non_negative("sigma", sigma, "in units of latent standard deviation")
        if not 0 <= keyframe_fraction <= 1:
            raise BadValue("keyframe_fraction", keyframe_fraction, "a number from 0 to 1")
        self.schedule, self.interpolator, self.noise = schedule, interpolator, noise
        self.scheduled_sampling = scheduled_sampling or Never()
        self.bridge_time, self.given = drawn.bridge_time or FullyCorrupted(), drawn.given or NoGiven()
        self.sigma, self.keyframe_fraction = noise.amplitude(sigma), keyframe_fraction
        self.level, self.seed = drawn.level, drawn.seed
        self.reflections: tuple[Reflection, ...] = ()
        if self.scheduled_sampling.replaces and keyframe_fraction == 0 and not self.bridge_time.fully_corrupted:
            # a replaced keyframe is x = (1 - tau) z0 + tau value; the model sees x, tau and value, so it could get z0
            allowed = "a number > 0 if keyframes are replaced and tau is drawn; otherwise x would reveal the truth"
            raise BadValue("keyframe_fraction", keyframe_fraction, allowed)
        if self.sigma == 0 and not self.bridge_time.fully_corrupted:
            allowed = "FullyCorrupted (tau = 1) without noise"
            raise BadValue("drawn.bridge_time", type(self.bridge_time).__name__, allowed)

    def with_codec(self, codec: PixelCodec) -> "Corruption":
        """The same forward process for a codec's clips: interpolates in the codec's pixels and mirrors its latents."""
        made = copy.copy(self)
        made.interpolator = self.interpolator.with_codec(codec)
        made.reflections = codec.reflections()
        return made

    @property
    def needs_anchors(self) -> bool:
        """Whether clips need phase-1 candidates: to replace keyframes, or as the schedule's input."""
        return self.scheduled_sampling.needs_anchors or self.schedule.needs_anchors

    def num_levels(self, num_frames: int) -> int:
        """S, the sparsest level of a clip of ``num_frames`` frames."""
        return len(self.schedule.counts_for(num_frames)) - 1

    def _sparsest(self, num_frames: int) -> int:
        """S; raises :class:`BadValue` if the one level to train at is above it."""
        sparsest = self.num_levels(num_frames)
        if self.level is not None and self.level > sparsest:
            raise BadValue("level", self.level, f"a level from 1 to {sparsest} for {num_frames} frames")
        return sparsest

    def check(self, latent_shape: Sequence[int]) -> None:
        """Refuses, with :class:`BadValue`, clips ``[c, t, *space]`` that this corruption is not defined for."""
        self.given.check(latent_shape)
        num_frames = latent_shape[1]
        self._sparsest(num_frames)
        content = Blank(latent_shape, self.interpolator)
        self.schedule.plan(torch.zeros(1, num_frames, dtype=torch.bool), Draws(0, "check", [""]), content)

    @torch.no_grad()
    def __call__(self, clip: Clip, stream: str) -> Corrupted:
        """Corrupts a batch of mixed levels on its own device; ``clip`` is not changed.

        Args:
            clip: clean latents ``[b, c, t, *space]``. With ``tau = 1`` the result depends on missing frames only if the
                schedule sees the clean clip (``schedule.sees``): dp, and learned with ``preview=clip``.
            stream: name of the random stream; :data:`TRAIN_STREAM` in training.
        """
        draws = Draws(self.seed, stream, clip.keys, clip.epochs)
        clip, device = self.given(clip, draws), clip.latents.device
        bridge_time = self.bridge_time if stream == TRAIN_STREAM else FullyCorrupted()
        tau = bridge_time.draw(draws, device)
        level = clip.level if clip.level is not None else self._draw_level(clip, draws)
        given = clip.given
        if given is None:
            given = torch.zeros(clip.batch_size, clip.num_frames, dtype=torch.bool, device=device)
        plan = self.schedule.plan(given, draws, ClipContent(clip, self.interpolator))
        drawn = self._drawn(clip, plan, level, tau, draws)
        if not self.scheduled_sampling.replaces:
            drawn.given = drawn.known
        proposals = self.scheduled_sampling.propose(clip, draws)
        return self._render(self._replace(drawn, proposals, draws), bridged=not bridge_time.fully_corrupted)

    @torch.no_grad()
    def of_keyframes(self, clip: Clip, plan: KeyframePlan, level: Int[Tensor, " b"], draws: Draws) -> Corrupted:
        """The corruption at ``tau = 1``, where sampling starts, of a clip whose missing frames are unknown.

        Known frames are the keyframes of ``plan`` at ``level``; those of ``plan.given`` are given. The other known
        frames are proposals, with the confidence of keyframes that this corruption may replace. Only noise is drawn.

        Args:
            clip: latents ``[b, c, t, *space]``; only known frames are read.
            plan: such as a storyboard's; the schedule is not used.
            level: the level of every clip.
            draws: the random numbers, for the noise.
        """
        tau = torch.ones(clip.batch_size, device=clip.latents.device)
        return self._render(self._drawn(clip, plan, level, tau, draws), bridged=False)

    def _drawn(
        self, clip: Clip, plan: KeyframePlan, level: Int[Tensor, " b"], tau: Float[Tensor, " b"], draws: Draws
    ) -> Corrupted:
        """A corrupted clip with all its draws, before :meth:`_render`: ``x`` and interpolation are still the clip."""
        known = plan.mask_at(level)
        return Corrupted(
            x=clip.latents,
            values=clip.latents,
            interpolation=clip.latents,
            confidence=known.to(clip.latents.dtype),
            known=known,
            given=plan.given,
            replaced=torch.zeros_like(known),
            level=level,
            tau=tau,
            noise_profile=self.noise(neighbours(known)),
            sigma=self.sigma,
            noise=self._draw(draws, "noise", clip.latents) if self.sigma > 0 else None,
            plan=plan,
            clip=clip,
        )

    @torch.no_grad()
    def recorrupt(self, corrupted: Corrupted, proposals: Proposals, stream: str = TRAIN_STREAM) -> Corrupted:
        """The same plan, level, bridge time, noise and replacement draw, with new proposals.

        Pure: ``corrupted`` is not changed, and calling it twice gives the same.
        """
        draws = Draws(self.seed, stream, corrupted.clip.keys, corrupted.clip.epochs)
        return self._render(self._replace(corrupted, proposals, draws), bridged=not self.bridge_time.fully_corrupted)

    @torch.no_grad()
    def with_values(
        self, corrupted: Corrupted, values: Float[Tensor, "b c t *space"], stream: str = TRAIN_STREAM
    ) -> Corrupted:
        """The same draws with other keyframe values, also on given frames. Pure."""
        bridged = stream == TRAIN_STREAM and not self.bridge_time.fully_corrupted
        return self._render(replace(corrupted, values=values), bridged)

    @torch.no_grad()
    def renoised(self, corrupted: Corrupted, stream: str, name: str = "noise") -> Corrupted:
        """The same plan, level, bridge time and keyframes with other noise, from the draw called ``name``. Pure."""
        draws = Draws(self.seed, stream, corrupted.clip.keys, corrupted.clip.epochs)
        drawn = replace(corrupted, noise=self._draw(draws, name, corrupted.values))
        return replace(drawn, x=self._state(drawn, stream == TRAIN_STREAM and not self.bridge_time.fully_corrupted))

    @torch.no_grad()
    def at_level(
        self, corrupted: Corrupted, level: Int[Tensor, " b"], values: Float[Tensor, "b c t *space"]
    ) -> Corrupted:
        """The same plan and noise at another level and ``tau = 1``, with keyframes taken from ``values``.

        Given frames keep their values. ``hierarchical`` sampling re-corrupts its estimate in this way.
        """
        known = corrupted.plan.mask_at(level)
        moved = replace(
            corrupted,
            values=corrupted.keep_given(values),
            known=known,
            level=level,
            tau=torch.ones_like(corrupted.tau),
        )
        return self._render(moved, bridged=False)

    @torch.no_grad()
    def with_finer(self, corrupted: Corrupted) -> Corrupted:
        """``corrupted`` with ``finer``: ``x`` one level finer from the same plan, bridge time, noise and replacements.

        One level finer than 1 is the clean clip.
        """
        level = (corrupted.level - 1).clamp(min=0)
        known = corrupted.plan.mask_at(level)
        given = corrupted.given if self.scheduled_sampling.replaces else known
        moved = replace(corrupted, level=level, known=known, given=given)
        finer = self._render(moved, bridged=not self.bridge_time.fully_corrupted).x
        return replace(corrupted, finer=torch.where(per_sample(level == 0, finer), corrupted.clean, finer))

    def _draw(self, draws: Draws, name: str, like: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b n t *space"]:
        return self.noise.draw(draws, name, like, self.interpolator.num_hypotheses)

    @torch.no_grad()
    def fresh(self, draws: Draws, name: str, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """``eps``, of unit variance, in float32, from the draw called ``name``."""
        return self.noise.eps(self._draw(draws, name, corrupted.interpolation.float()), corrupted)

    def _draw_level(self, clip: Clip, draws: Draws) -> Int[Tensor, " b"]:
        sparsest, device = self._sparsest(clip.num_frames), clip.latents.device
        if self.level is not None:
            return torch.full((clip.batch_size,), self.level, device=device)
        return 1 + (draws.uniform("level", 1, device).squeeze(1) * sparsest).long()

    def _replace(self, corrupted: Corrupted, proposals: Proposals | None, draws: Draws) -> Corrupted:
        """Replaces the keyframes that scheduled sampling draws by their proposals; never given ones.

        ``values`` also gets the proposals of frames that are keyframes only at finer levels, which share ``values``.
        """
        if proposals is None:
            return corrupted
        chosen = self.scheduled_sampling.chosen(torch.ones_like(corrupted.known), draws, corrupted.clip.step)
        chosen = chosen & ~corrupted.given & proposals.available
        kept = corrupted.keep_given(corrupted.clean)  # values of given frames may be encoded from stills
        values = torch.where(per_frame(chosen, kept), proposals.latents.to(kept.dtype), kept)
        return replace(corrupted, replaced=chosen & corrupted.known, values=values)

    def _render(self, corrupted: Corrupted, bridged: bool) -> Corrupted:
        """Interpolates ``corrupted.values`` and renders ``x`` from the draws that ``corrupted`` carries."""
        c = corrupted
        filled = self.interpolator(c.values, c.known)
        may_be_replaced = c.known & ~c.given
        profile = torch.where(may_be_replaced, self.keyframe_fraction, self.noise(neighbours(c.known)))
        not_given = self.scheduled_sampling.confidence(c.level / c.plan.num_levels).unsqueeze(1)
        of_keyframes = torch.where(c.given, 1.0, not_given)  # the same whether or not the draw replaced a keyframe
        known, of_keyframes = (v.view(*v.shape, *[1] * (filled.confidence.ndim - 2)) for v in (c.known, of_keyframes))
        confidence = torch.where(known, of_keyframes.to(filled.confidence.dtype), filled.confidence)
        offered = {"hypotheses": filled.hypotheses, "present": filled.present}
        rendered = replace(c, interpolation=filled.latents, noise_profile=profile, confidence=confidence, **offered)
        if (scale := self.noise.local_scale(rendered)) is not None:
            rendered = replace(rendered, local_scale=torch.where(per_frame(c.known, scale), 1.0, scale))
        return replace(rendered, x=self._state(rendered, bridged))

    def _state(self, c: Corrupted, bridged: bool) -> Float[Tensor, "b c t *space"]:
        """``x`` from the interpolation, the noise and the bridge time that ``c`` carries; does not change them."""
        x = c.interpolation
        if c.noise is not None:
            x = torch.addcmul(x, self.noise.eps(c.noise, c), c.amplitude.to(x.dtype))
        if bridged:
            x = torch.lerp(c.clean, x, per_sample(c.tau, x).to(x.dtype))
        if x is not c.interpolation:  # the interpolation already has the given frames
            torch.where(per_frame(c.given, x), c.values, x, out=x)  # in place: allocating a new batch costs more
        return x
