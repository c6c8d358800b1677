"""Anchor shards: phase-1 proposals of some frames of a clip, joined to it by key."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.shards import BadSample, LocalFolder, TensorReader, Unreadable, all_finite, build_index
from interp_refiner.data.shards.write import Anchor

log = logging.getLogger(__name__)

OnMissing = Literal["error", "ignore"]


@final
class AnchorShards:
    """A folder of shards of ``{key}.anchor.pt`` ``[c, k, *space]`` and ``{key}.anchor_idx.pt``, int ``[k]``.

    Latents are normalised like those of the clips they belong to; k may differ from clip to clip.

    Args:
        root: the folder.
        cache_dir: a local folder that keeps the index; None makes the index anew every time.

    Raises:
        BadValue: the folder holds no shards.
        BadSample: a key that is there twice, or an anchor without its indices.
    """

    def __init__(self, root: Path | str, cache_dir: Path | str | None = None):
        self.storage = LocalFolder(root)
        self.index = build_index(self.storage, cache_dir)
        if not self.index.shards:
            raise BadValue("anchors.root", root, "a folder with anchor shards, shard-*.tar or shard_*.tar")
        for fault in self.index.faults(["anchor", "anchor_idx"]).values():
            raise fault
        self.rows = {key: row for row, key in enumerate(self.index.keys)}
        self._reader = TensorReader(self.storage)

    def check(self, keys: Iterable[str], missing: OnMissing = "error") -> None:
        """Compares the anchors with the clips they are for.

        Raises:
            BadValue: naming keys without an anchor, unless ``missing="ignore"``, which logs them.
        """
        absent = [key for key in keys if key not in self.rows]
        if not absent:
            return
        named = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
        if missing == "error":
            allowed = f"an anchor for every clip, or data.anchors.missing=ignore: {self.storage.name} lacks {named}"
            raise BadValue("anchors.missing", missing, allowed)
        log.warning("no anchors in %s for %s: their keyframes keep the truth", self.storage.name, named)

    def read_into(self, key: str, latents: Float[Tensor, "c t *space"], proposed: Bool[Tensor, " t"]) -> None:
        """Fills the frames that have a proposal, and says which; a clip without an anchor has none.

        Raises:
            BadSample: indices or latents that do not fit the clip, or numbers that are not finite.
        """
        proposed.zero_()
        if (row := self.rows.get(key)) is None:
            return
        try:
            frames = self._reader.read(self.index.locate(row, "anchor_idx"))
            values = self._reader.read(self.index.locate(row, "anchor"))
            _check(frames, values, latents)
        except (Unreadable, EOFError, OSError) as error:
            raise BadSample(self.index.locate(row, "anchor")[0], key, f"anchor: {error}") from error
        latents[:, frames] = values.to(latents.dtype)
        proposed[frames] = True


def _check(frames: Tensor, values: Tensor, latents: Tensor) -> None:
    found = frames.tolist()
    if frames.ndim != 1 or frames.dtype != torch.int64 or len(set(found)) < len(found):
        raise Unreadable(f"indices {found}, expected different int64 numbers")
    if found and not 0 <= min(found) <= max(found) < latents.shape[1]:
        raise Unreadable(f"indices {found}, expected 0 to {latents.shape[1] - 1}")
    wanted = (latents.shape[0], len(found), *latents.shape[2:])
    if tuple(values.shape) != wanted:
        raise Unreadable(f"shape {list(values.shape)}, expected {list(wanted)}")
    if not all_finite(values):
        raise Unreadable("NaN or infinite numbers")


@dataclass(frozen=True)
class ImperfectSource:
    """A deliberately bad phase 1 for tests and experiments: frames shown too early or too late, with noise.

    ``z0[k + shift] + sigma eps``, shift uniform in ``-max_shift..max_shift`` and kept inside the clip.

    Attributes:
        frames: which frames have a proposal; None for all.
        sigma: of the noise, in units of latent standard deviation.
        max_shift: frames.
        seed: of shifts and noise, which are functions of (seed, key).
    """

    frames: Sequence[int] | None = None
    sigma: float = 0.3
    max_shift: int = 1
    seed: int = 0

    def __call__(self, key: str, latents: Float[Tensor, "c t *space"]) -> Anchor:
        """The anchor of one clip."""
        last = latents.shape[1] - 1
        frames = torch.tensor(list(self.frames) if self.frames is not None else range(last + 1))
        draws = Draws(self.seed, "anchor", [key])
        steps = (draws.uniform("shift", len(frames))[0] * (2 * self.max_shift + 1)).long() - self.max_shift
        shown = latents[:, (frames + steps).clamp(0, last)].float()
        return Anchor(key, shown + self.sigma * draws.normal("noise", shown.unsqueeze(0))[0], frames)

    def of(self, dataset: ShardDataset) -> Iterable[Anchor]:
        """The anchors of every clip of a data set."""
        return (self(sample.key, sample.latents) for sample in map(dataset.__getitem__, range(len(dataset))))
