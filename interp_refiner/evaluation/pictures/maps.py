"""Maps of the correction: one small map per frame."""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from interp_refiner.evaluation.records.plots import COLOURS, INK

KEYFRAME = COLOURS[1]
CELL = 0.62  # inches


def correction_map(clip: Float[Tensor, "c t h w"], interpolation: Float[Tensor, "c t h w"]) -> Float[Tensor, "t h w"]:
    """RMS over the channels of ``clip - interpolation``: the correction made, or for a true clip the one needed."""
    return (clip - interpolation).square().mean(0).sqrt()


def maps_by_frame(maps: Mapping[str, Float[Tensor, "t h w"]], known: Bool[Tensor, " t"]) -> Figure:
    """One row per map, one column per frame, all on one scale; the numbers of keyframes are orange.

    Args:
        maps: by name, at least one; zero is the lightest colour.
        known: the keyframes.
    """
    num_frames, height, width = next(iter(maps.values())).shape
    top = max(float(values.max()) for values in maps.values()) or 1.0
    size = (CELL * num_frames + 1.4, CELL * height / width * len(maps) + 0.7)
    canvas = Figure(figsize=size, layout="constrained")
    axes = canvas.subplots(len(maps), num_frames, squeeze=False)
    for place, (name, values) in enumerate(maps.items()):
        for frame, one in enumerate(axes[place]):
            picture = one.imshow(values[frame].cpu(), vmin=0.0, vmax=top, cmap="magma_r")
            one.set(xticks=[], yticks=[])
            if place == 0:
                one.set_title(frame, fontsize=9, color=KEYFRAME if known[frame] else INK)
        axes[place, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    canvas.colorbar(picture, ax=axes, fraction=0.012, pad=0.005)
    return canvas
