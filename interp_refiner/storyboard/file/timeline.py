"""Places keyframes on the latent grid, and finds collisions."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec import Codec
from interp_refiner.storyboard.file.keyframe import Keyframe


@dataclass(frozen=True)
class Grid:
    """The pixel frames and latent slots of a clip, from the codec's declared factor and first-frame rule.

    Attributes:
        num_frames: pixel frames.
        slots: the latent slot of every pixel frame, ``[0, 1, 1, 1, 1, 2, ...]`` for Wan.
    """

    num_frames: int
    slots: tuple[int, ...]

    @classmethod
    def of(cls, codec: Codec, num_frames: int) -> "Grid":
        """The grid of a clip; raises :class:`BadValue` for a length that the codec does not divide."""
        if not fits(codec, num_frames):
            below, above = nearest_lengths(codec, num_frames)
            shape = f"{'1 + ' if codec.first_frame_alone else ''}a multiple of {codec.temporal_factor}"
            raise BadValue("frames", num_frames, f"{shape} frames, such as {below} or {above}")
        alone = int(codec.first_frame_alone)
        latent_frames = alone + (num_frames - alone) // codec.temporal_factor
        return cls(num_frames, tuple(codec.latent_frame(latent_frames)))

    @property
    def latent_frames(self) -> int:
        return self.slots[-1] + 1

    def span(self, slot: int) -> range:
        """The pixel frames that a slot codes."""
        start = self.slots.index(slot)
        return range(start, start + self.slots.count(slot))


@dataclass(frozen=True)
class Placed:
    """A keyframe on the grid.

    Attributes:
        index: index of the keyframe.
        frame: the pixel frame of its time.
        slots: the latent slots that it occupies.
        shown: the pixel frames that these slots code.
    """

    index: int
    frame: int
    slots: range
    shown: range


def fits(codec: Codec, num_frames: int) -> bool:
    """Whether the codec can code this number of pixel frames exactly."""
    alone = int(codec.first_frame_alone)
    return num_frames > 0 and num_frames >= alone and (num_frames - alone) % codec.temporal_factor == 0


def nearest_lengths(codec: Codec, num_frames: int) -> tuple[int, int]:
    """The longest length that fits below ``num_frames``, and the shortest above."""
    alone, factor = int(codec.first_frame_alone), codec.temporal_factor
    whole = max(0, (num_frames - alone) // factor)
    below = alone + factor * whole
    return (below if below > 0 else factor), alone + factor * (whole + 1)


def place(keyframes: Sequence[Keyframe], grid: Grid, fps: float, codec: Codec) -> list[Placed]:
    """Snaps every keyframe to the grid.

    A still takes the slot that codes its frame. A video takes the slots from there on that it fills completely;
    left-over frames are dropped.

    Raises:
        BadValue: a time outside the clip, or a video that is longer than the rest of the clip or too short for a slot;
            names the keyframe.
    """
    placed = []
    for index, keyframe in enumerate(keyframes):
        try:
            frame = keyframe.at(grid.num_frames, fps)
            first = grid.slots[frame]
            slots = range(first, first + _slots_taken(keyframe, first, codec))
            if slots.stop > grid.latent_frames:
                room = grid.num_frames - grid.span(first).start
                raise BadValue("time", keyframe.time, f"an earlier time, or a clip of at most {room} frames")
        except BadValue as error:
            raise BadValue(f"keyframes[{index}].{error.name}", error.value, error.allowed) from None
        shown = range(grid.span(slots[0]).start, grid.span(slots[-1]).stop)
        placed.append(Placed(index, frame, slots, shown))
    return placed


def _slots_taken(keyframe: Keyframe, first: int, codec: Codec) -> int:
    if keyframe.latents is not None:
        return keyframe.latents.shape[1]
    if keyframe.video is None:  # a picture, or one that is generated
        return 1
    assert isinstance(keyframe.video, Tensor)
    frames = keyframe.video.shape[1]
    alone = int(codec.first_frame_alone and first == 0)
    slots = alone + (frames - alone) // codec.temporal_factor
    if slots < 1:
        raise BadValue("clip", f"{frames} frames", f"at least {codec.temporal_factor} frames, or an image")
    return slots


def collisions(placed: Sequence[Placed]) -> list[tuple[Placed, Placed]]:
    """Pairs of keyframes that need the same slot, the earlier entry first."""
    return [
        (a, b)
        for n, b in enumerate(placed)
        for a in placed[:n]
        if a.slots.start < b.slots.stop and b.slots.start < a.slots.stop
    ]


def refuse_collisions(placed: Sequence[Placed], keyframes: Sequence[Keyframe]) -> None:
    """Raises :class:`BadValue` for the first two keyframes that need the same latent slot."""
    for first, second in collisions(placed):
        frames = f"frames {second.shown.start} to {second.shown.stop - 1}"
        if len(second.shown) == 1:
            frames = f"frame {second.shown.start}"
        allowed = (
            f"a latent slot of its own: it would share {frames} with keyframes[{first.index}] "
            f"(time {keyframes[first.index].time})"
        )
        raise BadValue(f"keyframes[{second.index}].time", keyframes[second.index].time, allowed)
