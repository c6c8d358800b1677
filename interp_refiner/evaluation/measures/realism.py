"""Sharpness and motion: energies of missing frames relative to the truth's."""

from typing import final

from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure, frame_mean, masked_mean
from interp_refiner.evaluation.measures.clip_table import ClipMetric
from interp_refiner.evaluation.measures.metric import Batch

REALISM = "realism (1 is the truth)"
OF_TRUTH = " of the truth"


def laplacian_energy(clips: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
    """High-frequency energy of every frame: the mean square of the 5-point Laplacian at interior positions.

    A wave of angular frequencies (k_y, k_x) counts with ``(4 - 2 cos k_y - 2 cos k_x)^2``: about k^4 for long waves.

    Raises:
        BadValue: frames smaller than 3x3.
    """
    h, w = clips.shape[3:]
    if min(h, w) < 3:
        raise BadValue("clips", f"{h}x{w} positions", "at least 3x3 for a Laplacian")
    x = clips.float()
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return frame_mean((around - 4 * x[..., 1:-1, 1:-1]).square())


def difference_energy(clips: Float[Tensor, "b c t *space"], order: int = 1) -> Float[Tensor, "b n"]:
    """Mean square of the ``order``-th temporal difference, one number for each of the ``t - order`` differences."""
    return frame_mean(clips.float().diff(n=order, dim=2).square())


def energies(clips: Float[Tensor, "b c t h w"], known: Bool[Tensor, "b t"]) -> dict[str, Float[Tensor, " b"]]:
    """The energies that :class:`Realism` compares, one number per clip; 0 if a clip has no such frames.

    - ``high_frequency``: Laplacian energy, mean over missing frames;
    - ``boundary_motion``: energy of the step between a keyframe and its missing neighbour, mean over such steps;
    - ``inside_motion``: energy of the step between two missing frames, mean over such steps;
    - ``flicker``: energy of ``x_{t+1} - 2 x_t + x_{t-1}``, mean over missing frames t.
    """
    missing, motion = ~known, difference_energy(clips)
    return {
        "high_frequency": masked_mean(laplacian_energy(clips), missing),
        "boundary_motion": masked_mean(motion, known[:, 1:] ^ known[:, :-1]),
        "inside_motion": masked_mean(motion, missing[:, 1:] & missing[:, :-1]),
        "flicker": masked_mean(difference_energy(clips, order=2), missing[:, 1:-1]),
    }


def of_truth(name: str, heading: str, note: str = "") -> Measure:
    """An energy relative to the truth's."""
    return Measure(name, heading, "one", digits=2, domain="videos", section=REALISM, neutral=1.0, note=note)


@final
class Realism(ClipMetric):
    """Energies relative to the truth's. For each quantity q of :func:`energies` and method m

        q(m) = mean_i q_i(m) / mean_i q_i(truth)         (NaN if the truth has none)

    with i over clips. 1 is right. Linear interpolation scores low on all of them: it blurs, every step has
    ``1 / gap^2`` of the energy between its keyframes, and it bends only at keyframes. If the boundary ratio is below
    the inside ratio, frames stick to their keyframes. An inside ratio or flicker above 1 means jitter.

    Designed for decoded pixels; in latents, "high frequency" refers to latent positions.
    """

    measures = (
        of_truth("boundary_motion", "motion at keyframes", "motion: energy of frame-to-frame changes / the truth's"),
        of_truth("inside_motion", "motion in gaps"),
        of_truth("flicker", "flicker"),
        of_truth("high_frequency", "high frequency"),
    )

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(m.name + suffix for m in self.measures for suffix in ("", OF_TRUTH))

    def rows(self, estimate: Float[Tensor, "b c n h w"], batch: Batch) -> dict[str, Tensor]:
        truth = energies(batch.clean, batch.keyframes)
        return energies(estimate, batch.keyframes) | {name + OF_TRUTH: energy for name, energy in truth.items()}

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        return {m.name: means[m.name] / means[m.name + OF_TRUTH] for m in self.measures}
