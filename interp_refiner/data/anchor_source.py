"""Sources of anchors: a phase 1 proposes keyframes for the clips of a data set and writes them as anchor shards."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.config import writable_folder
from interp_refiner.core import BadValue, Draws, non_negative
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.lock import locked
from interp_refiner.data.settings import difference
from interp_refiner.data.shards import DATASET_FILE, BadSample, DatasetMetadata, Sample
from interp_refiner.data.shards.write import Anchor, write_shard

WITNESSES = 4  # clips whose digests are stored
SHARD = 256  # clips per shard


def digests(clips: ShardDataset) -> dict[str, str]:
    """Hashes of the stored latents of a few clips, spread over the data set, by key.

    Anchors store the digests of the clips that they were made for, see :func:`check_digests`.
    """
    spread = {round(i * (len(clips) - 1) / max(1, WITNESSES - 1)) for i in range(WITNESSES)}
    return {clips.key(i): digest for i in sorted(spread) if (digest := _digest(clips, i)) is not None}


def check_digests(made_for: dict[str, str], clips: ShardDataset, folder: Path) -> None:
    """Refuses anchors in ``folder`` that were made for clips with the same keys but other latents.

    Clips that are missing or cannot be read are not compared.

    Raises:
        BadValue: a clip has changed; names the folder to delete.
    """
    for sample in range(len(clips) if made_for else 0):
        wanted = made_for.get(key := clips.key(sample))
        if wanted is not None and (found := _digest(clips, sample)) is not None and found != wanted:
            allowed = f"anchors of the clips in {clips.storage.name}: clip {key} has changed since they were made"
            raise BadValue("data.anchors.root", folder, f"{allowed}; delete this folder, or use another one")


def _digest(clips: ShardDataset, sample: int) -> str | None:
    try:
        latents = clips[sample].latents
    except BadSample:
        return None
    return hashlib.blake2b(latents.contiguous().view(torch.uint8).numpy().tobytes(), digest_size=8).hexdigest()


class AnchorSource(ABC):
    """Proposes keyframes. It has no state, so the anchor of a clip is a function of the clip alone.

    Attributes:
        batch_size: number of clips passed to :meth:`propose` at a time.
    """

    batch_size: int = 1

    @abstractmethod
    def propose(self, clips: Sequence[Sample]) -> list[Anchor]:
        """The anchors of some clips, whose latents have about unit variance."""

    @property
    @abstractmethod
    def made_by(self) -> dict[str, Any]:
        """Everything besides the clips that determines the anchors, as values for ``dataset.json``."""

    @final
    def write(self, folder: Path, clips: ShardDataset) -> None:
        """Writes an anchor for every clip; returns at once if this source's anchors exist already.

        Shards are written one by one into a temporary folder, which is renamed to ``folder`` at the end. After an
        interruption, a new call continues with the first missing shard.

        Raises:
            BadValue: ``folder`` is a file or not writable, holds something else, or holds anchors that another source
                has begun.
        """
        if self._stands(folder):
            return
        writable_folder("data.anchors.root", folder)
        with locked(folder):
            if self._stands(folder):  # another process has written them in the meantime
                return
            if folder.exists() and any(folder.iterdir()):
                allowed = f"a folder in which {folder.name}/ has anchors, is empty or does not exist"
                raise BadValue("data.anchors.root", folder.parent, allowed)
            made_by = {**self.made_by, "clip_digests": digests(clips)}
            metadata = replace(clips.metadata, normalised=True, made_by=made_by, num_samples=len(clips))
            partial = folder.with_name(f"{folder.name}.partial")
            if not self._stands(partial):
                partial.mkdir(parents=True, exist_ok=True)
                metadata.save(partial)
            self._write_shards(partial, clips, metadata)
            if folder.exists():
                folder.rmdir()  # empty
            os.rename(partial, folder)

    def _write_shards(self, partial: Path, clips: ShardDataset, metadata: DatasetMetadata) -> None:
        title = f"anchors of {Path(clips.storage.name).name}"
        with tqdm(total=len(clips), desc=title, unit="clip") as progress:
            for number, start in enumerate(range(0, len(clips), SHARD)):
                stop, shard = min(start + SHARD, len(clips)), partial / f"shard-{number:05d}.tar"
                if not shard.exists():
                    anchors = self._anchors(clips, range(start, stop))
                    write_shard(shard.with_suffix(".part"), anchors, metadata, set())
                    os.replace(shard.with_suffix(".part"), shard)
                progress.update(stop - start)

    def _anchors(self, clips: ShardDataset, numbers: range) -> Iterator[Anchor]:
        for start in range(numbers.start, numbers.stop, self.batch_size):
            some = range(start, min(start + self.batch_size, numbers.stop))
            yield from self.propose([clips[number] for number in some])

    def _stands(self, folder: Path) -> bool:
        """Whether the folder holds this source's anchors; refuses those of another source."""
        if not (folder / DATASET_FILE).is_file():
            return False
        found, made_by = DatasetMetadata.load(folder).made_by, self.made_by
        if other := difference({name: found.get(name) for name in made_by}, made_by):
            allowed = f"anchors of this source, or a new folder; these have {other}; delete {folder} to remake them"
            raise BadValue("data.anchors.root", folder.parent, allowed)
        return True


@final
@dataclass(frozen=True)
class ImperfectSource(AnchorSource):
    """A deliberately bad phase 1 for tests and experiments: its keyframes are shifted in time and noisy.

    The proposal for frame k is ``z0[k + shift] + sigma eps``, shift uniform in ``-max_shift..max_shift`` and kept
    inside the clip.

    Attributes:
        frames: which frames have a proposal; None for all.
        sigma: amplitude of the noise, in units of latent standard deviation.
        max_shift: in frames.
        seed: shifts and noise are functions of (seed, key).

    Raises:
        BadValue: repeated or negative frame indices, a negative or infinite ``sigma``, or a negative ``max_shift``.
    """

    frames: Sequence[int] | None = None
    sigma: float = 0.3
    max_shift: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames is not None and (len(set(self.frames)) < len(self.frames) or min(self.frames, default=0) < 0):
            raise BadValue("frames", list(self.frames), "distinct frame indices >= 0, or null for all frames")
        non_negative("sigma", self.sigma, "in units of latent standard deviation")
        if self.max_shift < 0:
            raise BadValue("max_shift", self.max_shift, "a number of frames >= 0")

    @property
    def made_by(self) -> dict[str, Any]:
        frames = list(self.frames) if self.frames is not None else None
        return {"generator": "imperfect_source", **asdict(self), "frames": frames}

    def propose(self, clips: Sequence[Sample]) -> list[Anchor]:
        return [self._anchor(clip.key, clip.latents) for clip in clips]

    def _anchor(self, key: str, latents: Float[Tensor, "c t *space"]) -> Anchor:
        last = latents.shape[1] - 1
        frames = torch.tensor(list(self.frames) if self.frames is not None else range(last + 1), dtype=torch.int64)
        if self.frames and max(self.frames) > last:
            raise BadValue("frames", list(self.frames), f"indices from 0 to {last} for {last + 1} frames")
        draws = Draws(self.seed, "anchor", [key])
        steps = (draws.uniform("shift", len(frames))[0] * (2 * self.max_shift + 1)).long() - self.max_shift
        shown = latents[:, (frames + steps).clamp(0, last)].float()
        return Anchor(key, shown + self.sigma * draws.normal("noise", shown.unsqueeze(0))[0], frames)
