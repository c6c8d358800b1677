"""The report of a video: its keyframes, its joints, and a contact sheet."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from interp_refiner.data.codec import contact_sheet, stacked
from interp_refiner.evaluation.measures import keyframe_report, psnr
from interp_refiner.storyboard.conditioning.encoding import pixels
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.file.timeline import Placed
from interp_refiner.storyboard.pipeline.arguments import RefinerOutput
from interp_refiner.storyboard.pipeline.drafting import Draft

Video = Float[Tensor, "3 t h w"]
EMPTY = 0.93  # grey of frames without a keyframe
COLUMNS, ROWS = 21, 6  # of a contact sheet; longer videos are shown in part


def keyframe_records(result: RefinerOutput, video: Video) -> list[dict[str, Any]]:
    """The keyframe contract of every keyframe, in time order.

    ``exact``: its latents are equal bit for bit; ``latent_rmse``: distance from the requested latents. In pixels, at
    the keyframe's frame: ``psnr`` in decibels and ``colour_shift`` relative to the picture (including codec losses),
    and ``seam_flicker`` as in :class:`KeyframeReport`.

    Args:
        result: output of the pipeline.
        video: the decoded frames.
    """
    latents = keyframe_report(result.latents, result.values, result.known)
    error = (result.latents - result.values).float().square().transpose(1, 2).flatten(2).mean(2).sqrt()[0]
    pictures, shown = storyboard_row(result, video)
    wanted = torch.where(shown.view(1, -1, 1, 1), pictures, video).unsqueeze(0)
    seen = keyframe_report(video.unsqueeze(0), wanted, shown.unsqueeze(0))
    quality, records = psnr(video.unsqueeze(0), wanted)[0], []
    for placed in sorted(result.plan.placed, key=lambda placed: placed.slots.start):
        keyframe, slots = result.keyframes[placed.index], slice(placed.slots.start, placed.slots.stop)
        record = _where(keyframe, placed) | {
            "exact": bool(latents.exact[0, slots].all()),
            "latent_rmse": float(error[slots].square().mean().sqrt()),
        }
        if keyframe.pictures:
            inner = bool(seen.inner[placed.frame])
            record |= {
                "psnr": float(quality[placed.frame]),
                "colour_shift": float(seen.colour_shift[0, placed.frame]),
                "seam_flicker": float(seen.seam_flicker[0, placed.frame]) if inner else None,
            }
        records.append(record)
    return records


def _where(keyframe: Keyframe, placed: Placed) -> dict[str, Any]:
    return {
        "keyframe": placed.index,
        "name": keyframe.name,
        "time": keyframe.time,
        "frame": placed.frame,
        "latent_frames": list(placed.slots),
        "hard": keyframe.given,
        "generated": keyframe.generated,
        "strength": keyframe.strength,
    }


def joint_records(result: RefinerOutput) -> list[dict[str, Any]]:
    """The joints between windows: how much the windows' estimates of the overlap differ, and the flicker there.

    ``disagreement`` is the RMS difference of the last clean estimates over the missing frames of the overlap; None if
    it has none. ``seam_flicker`` (see :class:`KeyframeReport`) is the mean over the overlap: about 1 if the joint looks
    like the rest of the video.
    """
    parts, records = result.plan.parts, []
    for left, right, differ in zip(parts, parts[1:], result.disagreement, strict=False):
        overlap = torch.zeros_like(result.known)
        overlap[:, right.start : left.stop] = True
        report = keyframe_report(result.latents, result.latents, overlap)
        records.append(
            {
                "latent_frames": [right.start, left.stop - 1],
                "disagreement": differ,
                "seam_flicker": float(report.seam_flicker[overlap & report.inner].mean()),
            }
        )
    return records


def storyboard_row(
    result: RefinerOutput | Draft, video: Video, interpolation: Video | None = None
) -> tuple[Video, Bool[Tensor, " t"]]:
    """The storyboard as a video: its pictures at their times, grey elsewhere; and which frames have one.

    Keyframes that are latents or were generated are taken from ``interpolation``, which contains them unchanged.
    """
    row, shown = torch.full_like(video, EMPTY), torch.zeros(video.shape[1], dtype=torch.bool)
    for placed in result.plan.placed:
        keyframe, span = result.keyframes[placed.index], slice(placed.shown.start, placed.shown.stop)
        if not keyframe.pictures:
            if interpolation is not None:
                row[:, span], shown[span] = interpolation[:, span], True
            continue
        frames = pixels(keyframe, video.shape[3], video.shape[2])
        for offset, frame in enumerate(placed.shown):
            row[:, frame] = frames[:, min(offset, frames.shape[1] - 1)]
            shown[frame] = True
    return row, shown


def storyboard_sheet(
    result: RefinerOutput,
    video: Video,
    interpolation: Video,
    title: str = "",
    columns: int = COLUMNS,
) -> Image.Image:
    """Keyframes, interpolation and refined video, one above the other, with borders around keyframes.

    Videos longer than ``columns`` frames take several rows; of very long ones some frames are shown.
    """
    slots = torch.tensor(result.plan.grid.slots)
    marked = result.known[0].cpu()[slots]
    rows = [storyboard_row(result, video, interpolation)[0], interpolation, video]
    generated = any(keyframe.generated for keyframe in result.keyframes)
    labels = ("keyframes" if generated else "storyboard", "interpolation", "refined")
    if video.shape[1] > columns * ROWS:
        return contact_sheet(rows, labels, marked, title, columns)
    sheets = []
    for start in range(0, video.shape[1], columns):
        stop = min(start + columns, video.shape[1])
        cut = [row[:, start:stop] for row in rows]
        sheets.append(contact_sheet(cut, labels, marked[start:stop], title if start == 0 else "", first=start))
    return stacked(sheets)
