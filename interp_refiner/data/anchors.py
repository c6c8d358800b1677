"""Anchor shards: phase-1 proposals for some frames of a clip, joined to the clip by key."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, choice
from interp_refiner.data.anchor_source import AnchorSource, check_digests
from interp_refiner.data.dataset import OnBadSample, ShardDataset, declared_metadata, few_samples
from interp_refiner.data.shards import (
    BadSample,
    DatasetMetadata,
    LocalFolder,
    MemberReader,
    Unavailable,
    Unreadable,
    all_finite,
    build_index,
)
from interp_refiner.data.shards.finite import BITS
from interp_refiner.data.shards.storage import holds_shards

log = logging.getLogger(__name__)

OnMissing = Literal["error", "ignore"]


@final
class AnchorShards:
    """A folder of shards of ``{key}.anchor.pt`` ``[c, k, *space]`` and ``{key}.anchor_idx.pt``, int ``[k]``.

    As for clips, latents have about unit variance per channel. k may differ from clip to clip.

    Args:
        root: the folder.
        cache_dir: a local folder that keeps the index; None rebuilds the index every time.
        metadata: of the clips; declares the normalisation of anchors that have no ``dataset.json``.
        checksums: as in :class:`ShardDataset`.
        on_bad_sample: ``"error"`` raises the first fault that the index shows, ``"skip"`` leaves such anchors out.

    Attributes:
        faults: the faults that the index shows.

    Raises:
        BadValue: the folder holds no shards, or nothing declares their normalisation.
        BadSample: with ``on_bad_sample="error"``: fewer anchors than declared, a damaged shard, a key used twice, or an
            anchor without its indices.
    """

    def __init__(
        self,
        root: Path | str,
        cache_dir: Path | str | None = None,
        metadata: DatasetMetadata | None = None,
        checksums: bool = False,
        on_bad_sample: OnBadSample = "error",
    ):
        self.storage = LocalFolder(root)
        self.index = build_index(self.storage, cache_dir)
        if not self.index.shards:
            raise BadValue("data.anchors.root", root, "a folder with anchor shards, shard-*.tar or shard_*.tar")
        self.metadata = declared_metadata(self.storage, replace(metadata, num_samples=None) if metadata else None)
        bad, few = self.index.faults(["anchor", "anchor_idx"]), few_samples(self.index, self.metadata)
        self.faults = [*self.index.damaged_shards(), *bad.values(), *([few] if few is not None else [])]
        if self.faults and on_bad_sample == "error":
            raise self.faults[0]
        self.rows = {key: row for row, key in enumerate(self.index.keys) if row not in bad}
        self._reader = MemberReader(self.storage, checksums)

    def check(self, keys: Iterable[str], missing: OnMissing = "error") -> None:
        """Compares the anchors' keys with the clips' keys.

        Raises:
            BadValue: a clip has no anchor, unless ``missing="ignore"``, which logs a warning.
        """
        absent = [key for key in keys if key not in self.rows]
        if not absent:
            return
        named = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
        if missing == "error":
            folder = self.storage.name
            allowed = f"ignore, or an anchor for every clip; {folder} has none for {named}. Delete {folder}"
            raise BadValue("data.anchors.missing", missing, f"{allowed} to make them again")
        log.warning("no anchors in %s for %s: they keep their true keyframes", self.storage.name, named)

    def read_into(self, key: str, latents: Float[Tensor, "c t *space"], proposed: Bool[Tensor, " t"]) -> None:
        """Writes a clip's proposals into ``latents`` and marks their frames in ``proposed``; none if it has no anchor.

        Raises:
            BadSample: indices or latents that do not fit the clip, or NaN or infinite numbers.
            Unavailable: the storage does not answer.
        """
        proposed.zero_()
        if (row := self.rows.get(key)) is None:
            return
        try:
            frames, values = (self._reader.read(self.index.locate(row, kind)) for kind in ("anchor_idx", "anchor"))
            _check(frames, values, latents)
        except (Unreadable, EOFError, OSError) as error:
            fault = Unavailable if isinstance(error, OSError) else BadSample
            raise fault(self.index.locate(row, "anchor").shard, key, f"anchor: {error}") from error
        latents[:, frames] = self.metadata.normalise(values).to(latents.dtype)
        proposed[frames] = True

    def close(self) -> None:
        """Closes the files; reading opens them again."""
        self.storage.close()


def _check(frames: Tensor, values: Tensor, latents: Tensor) -> None:
    found = frames.tolist()
    if frames.ndim != 1 or frames.dtype != torch.int64 or len(set(found)) < len(found):
        raise Unreadable(f"indices {found}, expected distinct int64 numbers")
    if found and not 0 <= min(found) <= max(found) < latents.shape[1]:
        raise Unreadable(f"indices {found}, expected 0 to {latents.shape[1] - 1}")
    wanted = (latents.shape[0], len(found), *latents.shape[2:])
    if tuple(values.shape) != wanted:
        raise Unreadable(f"shape {list(values.shape)}, expected {list(wanted)}")
    if values.dtype not in BITS:
        raise Unreadable(f"dtype {values.dtype}, expected one of {', '.join(map(str, BITS))}")
    if not all_finite(values.contiguous()):
        raise Unreadable("NaN or infinite numbers")


@dataclass(frozen=True)
class Anchors:
    """The settings of a data set's proposals; they are read only if scheduled sampling needs them.

    Attributes:
        root: a folder with anchor shards in ``train/`` and ``val/``, or with shards for both; joined by key.
        missing: for clips without an anchor: ``"error"`` raises, ``"ignore"`` keeps their true keyframes.
        source: writes ``<root>/<split>`` on first use; None if the anchors exist already.
        always: read the anchors even if neither scheduled sampling nor the schedule needs them.

    Raises:
        BadValue: an unknown value of ``missing``.
    """

    root: str
    missing: OnMissing = "error"
    source: AnchorSource | None = None
    always: bool = False

    def __post_init__(self) -> None:
        choice("missing", self.missing, ("error", "ignore"))

    def validate(self) -> None:
        """Raises :class:`BadValue` if the root has no anchors and there is no source to make them. Cheap."""
        if self.source is None and not any(map(holds_shards, self._folders("train"))):
            allowed = "a folder with anchor shards in train/ and val/ (python -m interp_refiner.prepare anchors)"
            raise BadValue("data.anchors.root", self.root, allowed)

    def open(
        self, split: str, clips: ShardDataset, cache_dir: str | None = None, checksums: bool = False
    ) -> AnchorShards:
        """The anchors of one split; the source, if there is one, makes missing anchors first.

        Args:
            split: the folder below ``root``.
            clips: the clips of the split.
            cache_dir, checksums: as in :class:`AnchorShards`.

        Raises:
            BadValue: no anchors, anchors of another source or of other clips, or a clip without an anchor.
        """
        own, shared = self._folders(split)
        if self.source is not None and not holds_shards(shared):
            self.source.write(own, clips)
        folder = own if holds_shards(own) else shared
        shards = AnchorShards(folder, cache_dir, clips.metadata, checksums)
        check_digests(shards.metadata.made_by.get("clip_digests", {}), clips, folder)
        shards.check((clips.key(sample) for sample in range(len(clips))), self.missing)
        return shards

    def _folders(self, split: str) -> tuple[Path, Path]:
        root = Path(self.root).expanduser()
        return root / split, root
