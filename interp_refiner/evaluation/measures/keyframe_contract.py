"""Checks the keyframes of an output: whether they are exact, and whether there is a visible seam at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure, per_frame
from interp_refiner.evaluation.measures.clip_table import ClipMetric
from interp_refiner.evaluation.measures.metric import TRUTH, Batch, Role
from interp_refiner.evaluation.measures.realism import difference_energy
from interp_refiner.training.missing_frame import error_ratio

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class KeyframeReport:
    """The checks of every keyframe of a batch; they need no truth, so they work for any output.

    Attributes:
        keyframes: which frames are keyframes; on other frames the other fields are undefined.
        exact: whether the frame equals its keyframe bit for bit in the output's dtype (0 and -0 differ).
        colour_shift: distance of the frame's mean colour from the keyframe's: RMS over channels of the difference of
            spatial means.
        inner: frames with neighbours on both sides; the fields below are defined only for these.
        seam_colour: distance of the frame's mean colour from the mean of its two neighbours' mean colours.
        seam_flicker: energy of ``x_{t+1} - 2 x_t + x_{t-1}`` at the frame, relative to its mean over all inner frames
            of the clip: about 1 in a real video. For linear interpolation, which bends only at keyframes, it is the
            number of inner frames per inner keyframe.
    """

    keyframes: Bool[Tensor, "b t"]
    exact: Bool[Tensor, "b t"]
    colour_shift: Float[Tensor, "b t"]
    inner: Bool[Tensor, " t"]
    seam_colour: Float[Tensor, "b t"]
    seam_flicker: Float[Tensor, "b t"]

    def records(self) -> list[list[dict[str, Any]]]:
        """For every clip a list of its keyframes: ``frame, exact, colour_shift, seam_colour, seam_flicker``.

        The last two are None on the first and the last frame.
        """
        fields = (self.exact, self.colour_shift, self.seam_colour, self.seam_flicker)
        exact, shift, colour, flicker = (field.tolist() for field in fields)
        inner, clips = self.inner.tolist(), []
        for i, row in enumerate(self.keyframes.tolist()):
            frames = [t for t, keyframe in enumerate(row) if keyframe]
            clips.append(
                [
                    {
                        "frame": t,
                        "exact": exact[i][t],
                        "colour_shift": shift[i][t],
                        "seam_colour": colour[i][t] if inner[t] else None,
                        "seam_flicker": flicker[i][t] if inner[t] else None,
                    }
                    for t in frames
                ]
            )
        return clips


def keyframe_report(
    output: Float[Tensor, "b c t *space"],
    values: Float[Tensor, "b c t *space"],
    keyframes: Bool[Tensor, "b t"],
) -> KeyframeReport:
    """Compares the keyframes of an output with the values they were given.

    Args:
        output: the finished clips.
        values: the keyframes' values; never read elsewhere.
        keyframes: which frames to check.
    """
    wanted = torch.where(per_frame(keyframes, values), values.to(output.dtype), output)
    colour = spatial_mean(output)
    bend = torch.nn.functional.pad(colour.diff(n=2, dim=2), (1, 1)) / 2
    energy = difference_energy(output, order=2)
    inner = torch.ones(output.shape[2], dtype=torch.bool, device=output.device)
    inner[0] = inner[-1] = False
    return KeyframeReport(
        keyframes=keyframes,
        exact=same_bits(output, wanted),
        colour_shift=root_mean_square(colour - spatial_mean(wanted)),
        inner=inner,
        seam_colour=root_mean_square(bend),
        seam_flicker=torch.nn.functional.pad(
            error_ratio(energy, energy.mean(1, keepdim=True).expand_as(energy)), (1, 1)
        ),
    )


def same_bits(a: Float[Tensor, "b c t *space"], b: Float[Tensor, "b c t *space"]) -> Bool[Tensor, "b t"]:
    """Whether every number of a frame has the same bits in both clips, which must have one dtype."""
    bits = BITS[a.element_size()]
    return (a.contiguous().view(bits) == b.contiguous().view(bits)).transpose(1, 2).flatten(2).all(2)


def spatial_mean(clips: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b c t"]:
    """Mean colour of every frame, in float32."""
    return clips.float().flatten(3).mean(3) if clips.ndim > 3 else clips.float()


def root_mean_square(colour: Float[Tensor, "b c t"]) -> Float[Tensor, "b t"]:
    """The root mean square over channels."""
    return colour.square().mean(1).sqrt()


EXACT = "exact: latents equal bit for bit; in pixels a keyframe differs from its picture by what the codec loses"


def of_keyframes(name: str, heading: str, **settings: Any) -> Measure:
    """A measure of the keyframe contract."""
    return Measure(name, heading, domain="latents", section="keyframes", brief=False, **settings)


@final
class KeyframeContract(ClipMetric):
    """The keyframe contract over many clips; see :class:`KeyframeReport` for the checks of each keyframe.

    Results are means over all keyframes; those of seams exclude the first and the last frame (NaN if no keyframe is
    left). ``colour_shift_max`` is the largest shift in a clip, averaged over clips.
    """

    measures = (
        of_keyframes("exact_share", "exact", better="higher", percent=True, note=EXACT),
        of_keyframes("colour_shift", "colour shift", digits=4),
        of_keyframes("colour_shift_max", "largest in a clip", digits=4),
        of_keyframes("seam_colour", "colour at the seam", digits=4),
        of_keyframes("seam_flicker", "seam flicker", better="one", digits=2),
    )

    @property
    def values(self) -> tuple[str, ...]:
        return (*super().values, "keyframes", "inner keyframes")

    def judged(self, methods: Mapping[str, Role]) -> list[str]:
        """Estimates, interpolations and the truth."""
        return [method for method, role in methods.items() if role != "control" or method == TRUTH]

    def rows(self, estimate: Float[Tensor, "b c t *space"], batch: Batch) -> dict[str, Tensor]:
        if batch.values is None:
            raise BadValue("values", None, "the keyframes' values")
        report = keyframe_report(estimate, batch.values, batch.known)
        every, inner = batch.known, batch.known & report.inner

        def total(x: Tensor, mask: Tensor) -> Tensor:
            return torch.where(mask, x.float(), 0.0).sum(1)

        return {
            "exact_share": total(report.exact, every),
            "colour_shift": total(report.colour_shift, every),
            "colour_shift_max": torch.where(every, report.colour_shift, 0.0).amax(1),
            "seam_colour": total(report.seam_colour, inner),
            "seam_flicker": total(report.seam_flicker, inner),
            "keyframes": every.sum(1),
            "inner keyframes": inner.sum(1),
        }

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        of_all = {name: means[name] / means["keyframes"] for name in ("exact_share", "colour_shift")}
        seams = {name: means[name] / means["inner keyframes"] for name in ("seam_colour", "seam_flicker")}
        return of_all | {"colour_shift_max": means["colour_shift_max"]} | seams
