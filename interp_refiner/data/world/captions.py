"""Captions for scenes of moving shapes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

from jaxtyping import Int
from torch import Tensor

from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene, octant


class Captions(ABC):
    """Describes every object of a scene, from back to front.

    Attributes:
        words: number of words that a caption's embedding can hold.
        net: whether a direction is that of an object's whole path, not of a part of it.
        vocabulary: all words that occur.
    """

    words: ClassVar[int] = 16
    net: ClassVar[bool] = False
    vocabulary: ClassVar[tuple[str, ...]] = (*BRIGHTNESS, *SHAPES, "moving", *DIRECTIONS, "and")

    @abstractmethod
    def motions(self, scene: Scene) -> list[list[str]]:
        """How every object of every scene moves."""

    def __call__(self, scene: Scene) -> list[str]:
        """One caption per scene."""
        columns = (scene.present.tolist(), scene.brightness.tolist(), scene.shape.tolist(), self.motions(scene))
        return [
            " and ".join(
                f"{BRIGHTNESS[b]} {SHAPES[s]} moving {motion}" for p, b, s, motion in zip(*row, strict=True) if p
            )
            for row in zip(*columns, strict=True)
        ]


@final
@dataclass(frozen=True)
class FirstDirection(Captions):
    """The direction of every object when first seen: ``"bright circle moving left and dark square moving up"``."""

    def motions(self, scene: Scene) -> list[list[str]]:
        first = scene.in_view[..., :-1].int().argmax(-1, keepdim=True)
        return _words(scene.directions.gather(-1, first).squeeze(-1))


@final
@dataclass(frozen=True)
class NetDirection(Captions):
    """The direction of every object's path as a whole, from where it is first seen to where it is last seen.

    On a curve, the first direction says little about where the object is later. The net direction tells a keyframe
    generator from which side to which side of the frame the object probably moves. On a path that ends near its start
    it says nothing; a path of length 0 gives "right".
    """

    net: ClassVar[bool] = True

    def motions(self, scene: Scene) -> list[list[str]]:
        seen = scene.in_view.int()
        first, last = seen.argmax(-1), seen.shape[-1] - 1 - seen.flip(-1).argmax(-1)
        start, end = (scene.centre.take_along_dim(frame[..., None, None], 2).squeeze(2) for frame in (first, last))
        return _words(octant(end - start))


@final
@dataclass(frozen=True)
class Turns(Captions):
    """An object's whole path: ``"bright circle moving left turning down at 6 turning right at 14"``.

    A turn or a bounce is mentioned if the direction changes to another of the eight; the number is the frame before the
    first step in the new direction. So the caption contains information that the keyframes around a turn do not. An
    object on a curve takes up to 9 words per quarter circle, and words beyond the limit are cut: use few such objects.
    """

    words: ClassVar[int] = 64
    vocabulary: ClassVar[tuple[str, ...]] = (*Captions.vocabulary, "turning", "at", *map(str, range(1, 100)))

    def motions(self, scene: Scene) -> list[list[str]]:
        return [[self._path(directions) for directions in row] for row in scene.directions.tolist()]

    @staticmethod
    def _path(directions: list[int]) -> str:
        turns = [
            f"turning {DIRECTIONS[after]} at {frame}"
            for frame, (before, after) in enumerate(pairwise(directions), 1)
            if after != before
        ]
        return " ".join([DIRECTIONS[directions[0]], *turns])


def _words(directions: Int[Tensor, "b n"]) -> list[list[str]]:
    return [[DIRECTIONS[index] for index in row] for row in directions.tolist()]
