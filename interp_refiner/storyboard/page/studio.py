"""The functions behind the demo page, without its layout."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from interp_refiner.data.codec import write_mp4
from interp_refiner.model.sampler import NoGuidance, OneJump, Sampler
from interp_refiner.storyboard.file.storyboard import Storyboard, parse_storyboard
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.plan.plan import VideoPlan
from interp_refiner.storyboard.sampling.report import keyframe_records, storyboard_sheet
from interp_refiner.storyboard.sampling.terminal import CONTRACT, contract_row
from interp_refiner.storyboard.sampling.video import read_board

SHOWN_WIDTH = 448  # approximate width of a video on the page, in pixels
SHEET_COLUMNS = 11  # frames in a row of the contact sheet, which is as wide as the page
FAST = "fast (one step)"  # the label of a distilled model
Progress = Callable[[int, int], None]
Number = int | float


@dataclass(frozen=True)
class Pinned:
    """A picture on the timeline.

    Attributes:
        image: its file.
        percent: its time, 0 for the first frame and 100 for the last.
        strength: of a proposal; None for a constraint.
    """

    image: str
    percent: Number
    strength: Number | None = None

    def entry(self) -> dict[str, Any]:
        """Its storyboard entry."""
        hard = {} if self.strength is None else {"strength": float(self.strength)}
        return {"image": self.image, "time": f"{self.percent:g}%", **hard}


@dataclass(frozen=True)
class Interpolated:
    """The result of :meth:`Studio.interpolate`: the video file, its plan, and notes."""

    video: Path
    plan: VideoPlan
    notes: list[str]


@dataclass(frozen=True)
class Refined:
    """The result of :meth:`Studio.refine`.

    Attributes:
        video: the video file.
        interpolation: the file of the interpolation.
        sheet: contact sheet of keyframes, interpolation and refinement.
        contract: one row per keyframe, columns as in ``CONTRACT``.
        notes: differences from what was asked, one line each.
    """

    video: Path
    interpolation: Path
    sheet: Image.Image
    contract: list[list[str]]
    notes: list[str]


def pinned(images: Sequence[str], before: Sequence[Pinned] = ()) -> list[Pinned]:
    """The pictures on the timeline. Without new pictures, the others keep their settings.

    With new pictures, all are spread evenly, in the order of the files.
    """
    there = {pin.image: pin for pin in before}
    if all(image in there for image in images):
        return [there[image] for image in images]
    last = max(1, len(images) - 1)
    return [Pinned(image, round(100 * n / last, 1), getattr(there.get(image), "strength", None))
            for n, image in enumerate(images)]  # fmt: skip


def storyboard(pins: Sequence[Pinned], frames: int | None, fps: Number | None, prompt: str) -> Storyboard:
    """The storyboard of the page; raises :class:`BadValue` as a storyboard file does."""
    length = {name: value for name, value in (("frames", frames), ("fps", fps)) if value is not None}
    return parse_storyboard({"keyframes": [pin.entry() for pin in pins], "prompt": prompt, **length})


def _as_in_model(sampler: Sampler, own: Sampler) -> Sampler:
    sampler = copy.copy(sampler)
    if isinstance(sampler, OneJump) and isinstance(own, OneJump) and sampler.strength == 1:
        sampler.strength = own.strength
    if not isinstance(sampler.guidance, NoGuidance) or sampler.views.count > 1:
        return sampler
    sampler.guidance, sampler.views = own.guidance, own.views
    return sampler


class Studio:
    """A pipeline with the samplers to choose from.

    Args:
        pipeline: on its device.
        samplers: by the names shown on the page; one with neither guidance nor views of its own takes the model's, and
            ``one_jump`` the model's strength unless it has one below 1.
        folder: output folder of videos.
        upscale: enlargement factor of videos; None for a width of about ``SHOWN_WIDTH``.
        fast: a distilled model of the same clips with its own sampler, as a further choice; None for none.
    """

    def __init__(
        self,
        pipeline: RefinerPipeline,
        samplers: Mapping[str, Sampler],
        folder: Path,
        upscale: int | None = None,
        fast: RefinerPipeline | None = None,
    ):
        self.pipeline, self.folder = pipeline, folder
        self.samplers = {name: _as_in_model(sampler, pipeline.sampler) for name, sampler in samplers.items()}
        self.upscale, self.models = upscale, {} if fast is None else {FAST: fast}
        self.samplers |= {name: model.sampler for name, model in self.models.items()}
        pipeline.set_progress_bar_config(disable=True)

    @property
    def own_sampler(self) -> str:
        """The name of the model's own sampler, else the first one."""
        same = [name for name, sampler in self.samplers.items() if type(sampler) is type(self.pipeline.sampler)]
        return [*same, *self.samplers][0]

    @property
    def generates(self) -> bool:
        """Whether a prompt alone is enough for a video."""
        return self.pipeline.phase1 is not None

    @property
    def num_frames(self) -> int:
        """Pixel frames of the clips that the model was trained on."""
        return self.pipeline.planner.length(None, None, None)

    def interpolate(self, board: Storyboard, session: str) -> Interpolated:
        """The interpolation, without running the refiner's network."""
        request, fitted = read_board(self.pipeline, board)
        plan = self.pipeline.planner.plan(request.keyframes, request.size)
        video = self.pipeline.interpolate(request.keyframes, request.size)
        file = write_mp4(self.folder / session / "interpolation.mp4", video, plan.fps, self._scale(video))
        return Interpolated(file, plan, [*fitted, *plan.notes])

    def refine(
        self, board: Storyboard, sampler: str, steps: int, seed: int, session: str, progress: Progress
    ) -> Refined:
        """The refined video; ``progress(done, of)`` is called after every clean estimate and after decoding."""
        request, notes = read_board(self.pipeline, board, seed)
        pipeline = copy.copy(self.models.get(sampler, self.pipeline))
        pipeline.progress = self.pipeline.progress
        pipeline.sampler = self._sampler(sampler, steps)
        total = pipeline.sampler.evaluations(pipeline.levels.sparsest) + 1

        def on_step_end(_: RefinerPipeline, step: int, tau: float, tensors: dict[str, Any]) -> dict[str, Any]:
            progress(step + 1, total)
            return tensors

        result = pipeline.make(request, output_type="pt", callback_on_step_end=on_step_end)
        video = result.frames
        file = write_mp4(self.folder / session / "refined.mp4", video, result.plan.fps, self._scale(video))
        interpolation = pipeline.decode(result.interpolation, like=result.latents)
        start = self.folder / session / "interpolation.mp4"
        write_mp4(start, interpolation, result.plan.fps, self._scale(video))
        sheet = storyboard_sheet(result, video, interpolation, columns=SHEET_COLUMNS)
        progress(total, total)
        contract = [contract_row(record) for record in keyframe_records(result, video)]
        return Refined(file, start, sheet, contract, [*notes, *pipeline.sampler_notes(), *result.plan.notes])

    def _sampler(self, name: str, steps: int) -> Sampler:
        return self.samplers[name] if name in self.models else self.samplers[name].of_steps(steps)

    def _scale(self, video: Any) -> int:
        return self.upscale or max(1, SHOWN_WIDTH // video.shape[3])


__all__ = ["CONTRACT", "Interpolated", "Number", "Pinned", "Refined", "Studio", "pinned", "storyboard"]
