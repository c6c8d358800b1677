"""What became of the keyframes: are they kept exactly, and do they sit in the video without a seam?"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from interp_refiner.core import per_frame
from interp_refiner.evaluation.measures.realism import difference_energy
from interp_refiner.training.missing_frame import error_ratio

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class KeyframeReport:
    """The contract of every keyframe of a batch; needs no truth, so it can stand beside any output.

    Attributes:
        keyframes: which frames these are; elsewhere the other fields mean nothing.
        exact: the frame equals its keyframe bit for bit, as a number of the output's dtype (0 and -0 differ).
        colour_shift: distance of the frame's mean colour from the keyframe's, the root mean square over channels of the
            difference of spatial means.
        inner: frames with a neighbour on either side; the fields below are defined for these only.
        seam_colour: distance of the frame's mean colour from the mean of its two neighbours', likewise.
        seam_flicker: energy of ``x_{t+1} - 2 x_t + x_{t-1}`` at the frame, relative to its mean over all inner frames
            of the clip: about 1 in a real video, the number of inner frames per inner keyframe after linear
            interpolation, which bends nowhere else.
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
        keyframes: which frames to judge.
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
    """Whether every number of a frame has the same bits in both clips, which are of one dtype."""
    bits = BITS[a.element_size()]
    return (a.contiguous().view(bits) == b.contiguous().view(bits)).transpose(1, 2).flatten(2).all(2)


def spatial_mean(clips: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b c t"]:
    """Mean colour of every frame, in float32."""
    return clips.float().flatten(3).mean(3) if clips.ndim > 3 else clips.float()


def root_mean_square(colour: Float[Tensor, "b c t"]) -> Float[Tensor, "b t"]:
    """Over channels."""
    return colour.square().mean(1).sqrt()


class KeyframeContract(Metric):
    """The keyframe contract over many clips; see :class:`KeyframeReport` for what is measured at each keyframe.

    ``compute`` gives ``exact_share``, the means ``colour_shift``, ``seam_colour`` and ``seam_flicker`` over keyframes,
    ``colour_shift_max``, and how many ``keyframes`` there were; without any, nothing, and without one between the first
    and the last frame no seam figures.

    States are sums and a maximum, so the result is the same on any number of processes.
    """

    is_differentiable = False
    full_state_update = False

    sums: Tensor
    count: Tensor
    colour_shift_max: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("colour_shift_max", torch.zeros(()), dist_reduce_fx="max")

    def update(
        self,
        output: Float[Tensor, "b c t *space"],
        values: Float[Tensor, "b c t *space"],
        keyframes: Bool[Tensor, "b t"],
    ) -> None:
        """Adds one batch, without waiting for the device; arguments as for :func:`keyframe_report`."""
        report = keyframe_report(output, values, keyframes)
        inside = keyframes & report.inner
        terms = [
            (report.exact, keyframes),
            (report.colour_shift, keyframes),
            (report.seam_colour, inside),
            (report.seam_flicker, inside),
        ]
        self.sums += torch.stack([torch.where(mask, x.double(), 0.0).sum() for x, mask in terms])
        self.count += torch.stack([keyframes.sum(), inside.sum()])
        shift = torch.where(keyframes, report.colour_shift, 0.0).max()
        self.colour_shift_max = torch.maximum(self.colour_shift_max, shift)

    def compute(self) -> dict[str, float]:
        keyframes, inside = self.count.tolist()
        exact, shift, colour, flicker = self.sums.tolist()
        figures: dict[str, float] = {}
        if keyframes:
            figures |= {"keyframes": keyframes, "exact_share": exact / keyframes, "colour_shift": shift / keyframes}
            figures |= {"colour_shift_max": self.colour_shift_max.item()}
        if inside:
            figures |= {"seam_colour": colour / inside, "seam_flicker": flicker / inside}
        return figures
