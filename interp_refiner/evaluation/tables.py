"""What is measured of clips beside their squared error: of videos, and of paths."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted
from interp_refiner.data.medium import Maze, Medium, Video, walls_of
from interp_refiner.evaluation.measures import Bootstrap, FrechetByLevel, MazeScores, Realism, ScoreTable

Table = Callable[..., Any]
"""``(methods=, baselines=, bootstrap=)`` -> a metric with the update of a ``FrameTable``, beside the medium's own."""
Figures = dict[str, Any]
"""Records of metrics by the name of their field in an ``Evaluation``."""


class Tables(ABC):
    """Measures of several methods' clips, beside their squared error."""

    @abstractmethod
    def update(
        self,
        clips: Mapping[str, Float[Tensor, "n c t *space"]],
        corrupted: Corrupted,
        level: int,
        sample: Int[Tensor, " n"],
    ) -> None:
        """Adds a batch of one level.

        Args:
            clips: of every method, the truth among them.
            corrupted: what they were made of; it may have more clips than the first n.
            level: that all of them have.
            sample: index of each clip in its data set.
        """

    @abstractmethod
    def compute(self) -> Figures:
        """The figures so far."""


@final
class VideoTables(Tables):
    """PSNR, SSIM, realism, Frechet distance on random features, and what else is chosen.

    Args:
        video: the medium.
        methods, baselines, bootstrap, chosen: see :func:`tables_of`.
    """

    def __init__(
        self,
        video: Video,
        methods: list[str],
        baselines: list[str],
        bootstrap: Bootstrap,
        chosen: Mapping[str, Table],
    ):
        self.video = video
        self.scores = ScoreTable(methods, baselines, bootstrap=bootstrap)
        self.realism = Realism(methods, bootstrap)
        self.frechet = FrechetByLevel(methods, baselines)
        self.chosen = {n: t(methods=methods, baselines=baselines, bootstrap=bootstrap) for n, t in chosen.items()}

    def update(
        self,
        clips: Mapping[str, Float[Tensor, "n c t h w"]],
        corrupted: Corrupted,
        level: int,
        sample: Int[Tensor, " n"],
    ) -> None:
        known, levels = corrupted.known[: len(sample)], corrupted.level[: len(sample)]
        pixels = dict(clips)
        frames = list(range(known.shape[1]))
        if self.video.decodes:
            pixels = {method: self.video.codec.decode(clip) for method, clip in clips.items()}
            frames = self.video.codec.latent_frame(known.shape[1])
        truth, latent_frame = pixels["truth"], torch.tensor(frames, device=known.device)
        for table in (self.scores, *self.chosen.values()) if self.video.decodes else ():
            table.to(known.device).update(pixels, truth, known, levels, sample, latent_frame)
        self.realism.to(known.device).update(pixels, truth, known[:, latent_frame], levels, sample)
        self.frechet.to(known.device).update(pixels, truth, known, levels, sample)

    def compute(self) -> Figures:
        figures: dict[str, Any] = {"realism": self.realism.compute(), "frechet": self.frechet.compute()}
        if self.video.decodes:
            figures["scores"] = self.scores.compute()
        return figures | {"chosen": {name: table.compute() for name, table in self.chosen.items()}}


@final
class MazeTables(Tables):
    """:class:`MazeScores` of everything but the truth, which stands beside them for control.

    Args:
        maze: the medium.
        methods, baselines, bootstrap: see :func:`tables_of`.
    """

    def __init__(self, maze: Maze, methods: list[str], baselines: list[str], bootstrap: Bootstrap):
        self.maze, self.methods = maze, [method for method in methods if method != "truth"]
        self.scores = MazeScores(self.methods, baselines, bootstrap=bootstrap)

    def update(
        self, clips: Mapping[str, Float[Tensor, "n 2 t"]], corrupted: Corrupted, level: int, sample: Int[Tensor, " n"]
    ) -> None:
        n = len(sample)
        estimates = {method: self.maze.path(clips[method]) for method in self.methods}
        walls, clean = walls_of(corrupted.clip)[:n], self.maze.path(corrupted.clean[:n])
        self.scores.to(clean.device).update(estimates, clean, walls, corrupted.known[:n], corrupted.level[:n], sample)

    def compute(self) -> Figures:
        return {"mazes": self.scores.compute()}


def tables_of(
    medium: Medium, methods: list[str], baselines: list[str], bootstrap: Bootstrap, chosen: Mapping[str, Table]
) -> Tables:
    """What is measured of the clips of a medium.

    Args:
        medium: what the clips are.
        methods: that every update brings.
        baselines: those among them that the others are compared with.
        bootstrap: of the intervals.
        chosen: more tables, by name.

    Raises:
        BadValue: a chosen one is not for such clips.
    """
    if isinstance(medium, Maze):
        if chosen:
            raise BadValue("metric", list(chosen), "none: they are measured on pixels, and paths have none")
        return MazeTables(medium, methods, baselines, bootstrap)
    if not isinstance(medium, Video):
        raise BadValue("medium", type(medium).__name__, "a medium with tables")
    if chosen and not medium.decodes:
        allowed = "none: they are measured on decoded pixels, and the latents' codec has no decoder here"
        raise BadValue("metric", list(chosen), allowed)
    return VideoTables(medium, methods, baselines, bootstrap, chosen)
