"""Plans a video before anything is sampled: size, keyframes on the latent grid, windows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from interp_refiner.core import BadValue
from interp_refiner.data.codec import Codec
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.file.timeline import Grid, Placed, fits, nearest_lengths, place, refuse_collisions
from interp_refiner.storyboard.plan.levels import Levels
from interp_refiner.storyboard.plan.windows import Window, windows


@dataclass(frozen=True)
class VideoSize:
    """The requested size; None for that of the model's training clips.

    Attributes:
        num_frames: pixel frames.
        height, width: pixels.
        fps: frames per second.
    """

    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None


OF_CLIPS = VideoSize()  # the size of the model's clips


@dataclass(frozen=True)
class VideoPlan:
    """A video's size, the latent slots of its keyframes, and its windows.

    Attributes:
        latent_shape: ``(c, t, y, x)``.
        fps: frames per second.
        grid: pixel frames and latent slots.
        placed: the keyframes on the grid.
        level: level of the clip; 1 is the finest.
        parts: windows of the model's length; one window if the clip is not longer.
        notes: differences from training, one line each.
    """

    latent_shape: tuple[int, int, int, int]
    fps: float
    grid: Grid
    placed: list[Placed]
    level: int
    parts: list[Window]
    notes: list[str] = field(default_factory=list)

    @property
    def known(self) -> list[int]:
        """Latent frames that are keyframes."""
        return sorted({slot for placed in self.placed for slot in placed.slots})


MOST_FRAMES = 1_000_000  # 11 hours at 24 frames per second; a longer video is a typing error


@dataclass(frozen=True)
class Planner:
    """Plans videos for one model.

    Attributes:
        codec: of the model's latents.
        latent_shape: ``(c, t, y, x)`` of its training clips.
        levels: number of keyframes at each level in training.
        fps: of its data.
        divisor: heights and widths of latents must be divisible by it (the backbone's patches).
        replaces: whether training replaced keyframes by proposals.
    """

    codec: Codec
    latent_shape: Sequence[int]
    levels: Levels
    fps: float
    divisor: tuple[int, int]
    replaces: bool

    def length(self, frames: int | None, seconds: float | None, fps: float | None) -> int:
        """Pixel frames of a video: ``frames``, else nearest to ``seconds``, else those of the model's clips.

        Raises:
            BadValue: more than :data:`MOST_FRAMES`.
        """
        rate = fps or self.fps
        if frames is not None:
            if frames > MOST_FRAMES:
                raise BadValue("frames", frames, f"at most {MOST_FRAMES}")
            return frames
        if seconds is None:
            return len(self.codec.latent_frame(self.latent_shape[1]))
        if seconds * rate > MOST_FRAMES:
            raise BadValue("seconds", seconds, f"at most {MOST_FRAMES / rate:g}, which are {MOST_FRAMES} frames")
        wanted = round(seconds * rate)
        if fits(self.codec, wanted):
            return wanted
        return min(nearest_lengths(self.codec, wanted), key=lambda n: abs(n - seconds * rate))

    def grid(self, frames: int | None) -> Grid:
        """The grid of a video of this length; None for the length of the model's clips."""
        return Grid.of(self.codec, self.length(frames, None, None))

    def rate(self, fps: float | None) -> float:
        """Frames per second; None for those of the data; raises :class:`BadValue` for an invalid rate."""
        if fps is not None and not 0 < fps < inf:
            raise BadValue("fps", fps, "a positive number")
        return self.fps if fps is None else fps

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Pixel rows and columns; raises :class:`BadValue` if codec and backbone do not divide them."""
        factor, sizes = self.codec.spatial_factor, []
        for name, asked, latents, patch in zip(
            ("height", "width"), (height, width), self.latent_shape[2:], self.divisor, strict=True
        ):
            side = latents * factor if asked is None else asked
            if side <= 0 or side % (factor * patch):
                step = factor * patch
                near = [n for n in (side // step * step, (side // step + 1) * step) if n > 0] or [step]
                allowed = (
                    f"a multiple of {step} (codec {factor} x patch {patch}), such as {' or '.join(map(str, near))}"
                )
                raise BadValue(name, side, allowed)
            sizes.append(side)
        return sizes[0], sizes[1]

    def plan(self, keyframes: Sequence[Keyframe], size: VideoSize = OF_CLIPS, collide: bool = False) -> VideoPlan:
        """Places the keyframes and cuts the clip into windows.

        Args:
            keyframes: at least one.
            size: of the video.
            collide: whether to allow several keyframes in one slot, to show the plan.

        Raises:
            BadValue: names the setting or the keyframe.
        """
        if not keyframes:
            raise BadValue("keyframes", [], "at least one keyframe")
        rows, columns = self.size(size.height, size.width)
        grid, rate = self.grid(size.num_frames), self.rate(size.fps)
        placed = place(keyframes, grid, rate, self.codec)
        if not collide:
            refuse_collisions(placed, keyframes)
        known = sorted({slot for p in placed for slot in p.slots})
        factor = self.codec.spatial_factor
        shape = (self.latent_shape[0], grid.latent_frames, rows // factor, columns // factor)
        return VideoPlan(
            latent_shape=shape,
            fps=rate,
            grid=grid,
            placed=placed,
            level=self.levels.level(len(known), grid.latent_frames),
            parts=windows(known, grid.latent_frames, self.latent_shape[1]),
            notes=self._notes(shape, known, keyframes),
        )

    def _notes(self, shape: Sequence[int], known: Sequence[int], keyframes: Sequence[Keyframe]) -> list[str]:
        notes = []
        if list(shape[2:]) != list(self.latent_shape[2:]):
            trained = "x".join(str(side * self.codec.spatial_factor) for side in reversed(self.latent_shape[2:]))
            notes.append(f"the model was trained at {trained} pixels only")
        if shape[1] < self.latent_shape[1]:
            notes.append(f"the model was trained on {self.latent_shape[1]} latent frames, this clip has {shape[1]}")
        ends = [name for name, slot in (("first", 0), ("last", shape[1] - 1)) if slot not in known]
        if ends:
            notes.append(f"no keyframe in the {' and '.join(ends)} latent frame; the nearest one is repeated there")
        if not self.replaces and not all(keyframe.given for keyframe in keyframes):
            notes.append("the model was trained on true keyframes only, so it treats proposals as true")
        return notes
