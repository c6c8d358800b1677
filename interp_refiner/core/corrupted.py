"""The corrupted clip: the model's input and its target."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core.clip import Clip
from interp_refiner.core.neighbours import Neighbours, neighbours
from interp_refiner.core.plan import KeyframePlan
from interp_refiner.core.shapes import per_frame


@dataclass(frozen=True)
class Alternatives:
    """An interpolator's hypotheses other than ``zbar``: ``n = k - 1`` other motion models.

    Attributes:
        offsets: ``h_j - zbar`` for j = 2..k; 0 on known frames.
        present: 0 where ``h_j`` is undefined and equals ``zbar``, up to 1 where it is defined.
    """

    offsets: Float[Tensor, "b n c t *space"]
    present: Float[Tensor, "b n t *positions"]


@dataclass
class Corrupted:
    """A clip after the forward process (docs/method.md, Corruption),

        x = (1 - tau) z0 + tau (zbar + sigma m g eps)   on every frame that is not given
        x = value, bit for bit                          on given frames

    Not frozen: Lightning's precision plugins assign to the fields of a batch.

    Attributes:
        x: the state the model sees.
        values: keyframe values; only known frames are ever read.
        interpolation: ``zbar``, equal to ``values`` on known frames.
        confidence: 1 on given frames, about 0.5 on keyframes that may be replaced, and on missing frames the
            interpolator's own estimate, or 0 if it has none.
        known: keyframes at each sample's level.
        given: the known frames that nothing may change.
        replaced: keyframes whose value is a proposal instead of the truth.
        level: ``s``, 1..S.
        tau: bridge time, 0 clean to 1 fully corrupted.
        noise_profile: ``m``, 0 on given frames.
        sigma: noise amplitude in units of latent standard deviation.
        noise: the numbers from which the noise profile makes ``eps``; None without noise.
        plan: the keyframes of every level.
        clip: the clip before corruption. Its latents are ``z0`` in training and validation; in sampling they hold only
            keyframes.
        finer: ``x`` one level finer, from the same draws; None if the objective does not need it.
        hypotheses: k reconstructions of the clip, one per motion model; the first is ``interpolation``. None where the
            interpolator offers only one.
        present: 0 where a hypothesis is undefined and equals ``interpolation``, up to 1 where it is defined.
        local_scale: ``g``, the noise amplitude of every position relative to its frame's ``m``; None where it is 1.
    """

    x: Float[Tensor, "b c t *space"]
    values: Float[Tensor, "b c t *space"]
    interpolation: Float[Tensor, "b c t *space"]
    confidence: Float[Tensor, "b t *ones"]
    known: Bool[Tensor, "b t"]
    given: Bool[Tensor, "b t"]
    replaced: Bool[Tensor, "b t"]
    level: Int[Tensor, " b"]
    tau: Float[Tensor, " b"]
    noise_profile: Float[Tensor, "b t"]
    sigma: float
    noise: Float[Tensor, "b n t *space"] | None
    plan: KeyframePlan
    clip: Clip
    finer: Float[Tensor, "b c t *space"] | None = None
    hypotheses: Float[Tensor, "b k c t *space"] | None = None
    present: Float[Tensor, "b k t *positions"] | None = None
    local_scale: Float[Tensor, "b c t *space"] | None = None

    @property
    def clean(self) -> Float[Tensor, "b c t *space"]:
        """``z0``: for objectives and metrics; backbones and samplers never read it."""
        return self.clip.latents

    @property
    def missing(self) -> Bool[Tensor, "b t"]:
        return ~self.known

    @property
    def neighbours(self) -> Neighbours:
        """The keyframes left and right of every frame at the current level."""
        return neighbours(self.known)

    @property
    def noise_level(self) -> Float[Tensor, "b t"]:
        """``a = tau sigma m``: the standard deviation of the noise in every frame of ``x``.

        Where the noise has a ``local_scale``, it is multiplied by that scale's root mean square over the frame.
        """
        of_frame = self.tau.unsqueeze(1) * self.sigma * self.noise_profile
        if self.local_scale is None:
            return of_frame
        return of_frame * self.local_scale.float().square().transpose(1, 2).flatten(2).mean(2).sqrt()

    @property
    def amplitude(self) -> Float[Tensor, "b c_or_1 t *positions"]:
        """``s = sigma m g``: the standard deviation of the noise at ``tau = 1``; axes of size 1 without ``g``."""
        s = per_frame(self.sigma * self.noise_profile, self.interpolation)
        return s if self.local_scale is None else s * self.local_scale

    @property
    def flow_time(self) -> Float[Tensor, "b t"]:
        """``u = a / (1 + a)``: the flow-matching time at which ``x / (1 + a) = (1 - u) z + u eps``."""
        return self.noise_level / (1 + self.noise_level)

    @property
    def flow_state(self) -> Float[Tensor, "b c t *space"]:
        """``x_u = x / (1 + a)``: ``x`` as a flow-matching state, every frame at its own time ``u``."""
        return self.x / per_frame(1 + self.noise_level, self.x).to(self.x.dtype)

    @property
    def num_hypotheses(self) -> int:
        """k, how many reconstructions the interpolator offers, ``interpolation`` among them."""
        return 1 if self.hypotheses is None else self.hypotheses.shape[1]

    @property
    def alternatives(self) -> Alternatives | None:
        """The interpolator's hypotheses other than ``zbar``; None if there are none."""
        if self.hypotheses is None or self.present is None:
            return None
        return Alternatives(self.hypotheses[:, 1:] - self.interpolation.unsqueeze(1), self.present[:, 1:])

    def keep_given(self, latents: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b c t *space"]:
        """``latents`` in the precision of the keyframes, with the given frames written back, bit for bit."""
        return torch.where(per_frame(self.given, latents), self.values, latents.to(self.values.dtype))

    def frames(self, start: int, stop: int) -> "Corrupted":
        """Frames ``start`` to ``stop - 1`` unchanged: nothing is interpolated or drawn again."""
        along_time = {
            3: ("hypotheses",),
            2: ("x", "values", "interpolation", "noise", "finer", "present", "local_scale"),
            1: ("confidence", "known", "given", "replaced", "noise_profile"),
        }
        cut = {
            name: value.narrow(axis, start, stop - start)
            for axis, names in along_time.items()
            for name in names
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **cut, plan=self.plan.frames(start, stop), clip=self.clip.frames(start, stop))

    def at(self, tau: Float[Tensor, " b"], x: Float[Tensor, "b c t *space"]) -> "Corrupted":
        """The same keyframes at another bridge time and state, given frames written back."""
        return replace(self, tau=tau, x=self.keep_given(x))
