"""The classes that the toy configs in tests/config/conf build."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import nn

from interp_refiner.core import BadValue, MissingExtra


class Noise:
    def __init__(
        self, sigma: float, counts: list[int], profile: Literal["none", "dist", "dist_linear", "gauss"] = "dist"
    ):
        if sigma < 0:
            raise BadValue("sigma", sigma, "a number >= 0")
        self.sigma, self.counts, self.profile = sigma, counts, profile


class NeedsExtra:
    def __init__(self) -> None:
        raise MissingExtra("flash attention", "flash-attn", "flash")


class Callback:
    def __init__(self, every_n_steps: int):
        if every_n_steps < 1:
            raise BadValue("every_n_steps", every_n_steps, "an integer >= 1")


class Trainer:
    def __init__(
        self,
        max_steps: int = -1,
        max_time: str | None = None,
        default_root_dir: str | Path | None = None,
        callbacks: list[Callback] | Callback | None = None,
        optimizer: Callable[..., Any] | None = None,
        net: nn.Module | None = None,
    ):
        self.max_steps, self.callbacks, self.optimizer = max_steps, callbacks, optimizer


class Data:
    """Reads its folder; ``corruption`` and ``num_frames`` come from the program."""

    def __init__(
        self, root: Path | str, batch_size: int, corruption: Noise, num_frames: int, net: nn.Module | None = None
    ):
        (Path(root) / ".").stat()
        self.batch_size, self.corruption, self.num_frames = batch_size, corruption, num_frames

    def setup(self) -> None:
        """Where a real data module finds what its config could not tell."""
        raise BadValue("batch_size", self.batch_size, "at most the number of clips, 2")


def broken(size: int) -> None:
    """A constructor with a bug."""
    raise ValueError(f"bug with {size}")
