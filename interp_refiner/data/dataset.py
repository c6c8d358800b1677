"""A folder of shards as a sequence of samples that can be read in any order."""

import heapq
import logging
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from interp_refiner.core import BadValue, choice, derived_seed
from interp_refiner.data.shards import (
    DATASET_FILE,
    DTYPES,
    BadSample,
    DatasetMetadata,
    LocalFolder,
    MemberReader,
    Sample,
    ShardIndex,
    Storage,
    Unavailable,
    Underway,
    Unreadable,
    all_finite,
    build_index,
    read_members,
    unread,
)

log = logging.getLogger(__name__)

OnBadSample = Literal["error", "skip"]
StoredTensor = Literal["latent", "embed", "context"]


class ShardDataset:
    """The samples of one folder of shards, numbered in the order in which they are stored.

    Latents have about unit variance per channel: as stored if the metadata says that they are normalised, else
    ``(z - mean) / std`` in float32.

    Args:
        storage: the folder, or its path.
        metadata: declaration for a folder without a ``dataset.json``; an existing ``dataset.json`` takes precedence.
        cache_dir: a local folder that keeps the index; None rebuilds the index every time.
        on_bad_sample: what to do with samples that the index shows to be bad (a truncated shard, a missing member, a
            key used twice): ``"error"`` raises, ``"skip"`` leaves them out, the same ones in every process.
        threads: shards indexed at the same time.
        min_samples: the folder must have at least so many good samples, and all declared ones, unless a damaged shard
            that is skipped explains the difference. 0 turns both checks off.
        checksums: compare everything that is read with its checksum.

    Raises:
        BadValue: the folder holds no shards or too few samples, or nothing declares its shapes.
        BadSample: with ``on_bad_sample="error"``.
    """

    def __init__(
        self,
        storage: Storage | Path | str,
        metadata: DatasetMetadata | None = None,
        cache_dir: Path | str | None = None,
        on_bad_sample: OnBadSample = "error",
        threads: int = 8,
        min_samples: int = 1,
        checksums: bool = False,
    ):
        self.storage = storage if isinstance(storage, Storage) else LocalFolder(storage)
        self.on_bad_sample = choice("on_bad_sample", on_bad_sample, ("error", "skip"))
        self.metadata = declared_metadata(self.storage, metadata)
        self.index = build_index(self.storage, cache_dir, threads)
        if not self.index.shards:
            raise BadValue("root", self.storage.name, "a folder with shards (shard-*.tar or shard_*.tar)")
        for said in unread(self.storage, self.index):
            log.warning("%s: %s", self.storage.name, said)
        self.rows = self._good_rows(refuse_few=min_samples > 0)
        if len(self.rows) < min_samples:
            allowed = f"shards with at least {min_samples} undamaged sample" + "s" * (min_samples > 1)
            raise BadValue("root", self.storage.name, allowed)
        self.underway = Underway()
        self._reader = MemberReader(self.storage, checksums)

    def __len__(self) -> int:
        return len(self.rows)

    def key(self, sample: int) -> str:
        """The sample's name, unique in the dataset."""
        return self.index.keys[self.rows[sample]]

    @property
    def buckets(self) -> list[range]:
        """The samples of every clip size; here one range, because there is one size."""
        return [range(len(self))]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of latents, one per bucket."""
        return [self.metadata.latent_shape]

    @property
    def num_shards(self) -> int:
        return len(self.index.shards)

    def locate(self, sample: int) -> tuple["ShardDataset", int]:
        """The data set that holds a sample, and the sample's number in it."""
        return self, sample

    def where(self, sample: int) -> tuple[str, str]:
        """The shard and the key of a sample, for messages."""
        row = self.rows[sample]
        return self.index.shards[self.index.shard_of[row]], self.index.keys[row]

    @property
    def required(self) -> list[str]:
        """The kinds of members that every sample must have."""
        text = ["embed", "prompt"] if self.metadata.text_shape is not None else []
        return ["latent", *text, *(["context"] if self.metadata.context_shape is not None else [])]

    @property
    def latent_dtype(self) -> torch.dtype:
        """The dtype of the latents that are read: as stored, or float32 if they are normalised while reading."""
        return self.stored_dtype if self.metadata.normalised else torch.float32

    @property
    def stored_dtype(self) -> torch.dtype:
        """The dtype of the latents in the shards."""
        return DTYPES[self.metadata.latent_dtype]

    @property
    def text_dtype(self) -> torch.dtype:
        return DTYPES[self.metadata.text_dtype]

    @property
    def context_dtype(self) -> torch.dtype:
        return DTYPES[self.metadata.context_dtype]

    def read_into(
        self,
        sample: int,
        latents: Tensor,
        text: Tensor | None,
        context: Tensor | None = None,
        epoch: int | None = None,
    ) -> str:
        """Reads one sample into tensors of the declared shapes and this dataset's dtypes; returns the prompt.

        If the sample has several captions, ``epoch`` selects one (:func:`drawn_caption`). NaN and infinite numbers are
        not looked for: see :meth:`BatchReader.finite`.

        Raises:
            BadSample: something about the sample is not as declared.
            Unavailable: the storage does not answer.
        """
        row, reader = self.rows[sample], self._reader
        spans = self.index.members(row)
        shard = spans["latent"].shard
        stored = latents if self.metadata.normalised else torch.empty_like(latents, dtype=self.stored_dtype)
        prompt, embedded, shape = bytearray(), text, self.metadata.stored_text_shape
        if text is not None and shape is not None and self.metadata.num_captions > 1:
            embedded = torch.empty(shape, dtype=self.text_dtype)
        try:
            wanted = (("latent", stored), ("embed", embedded), ("context", context))
            members = [reader.tensor(kind, spans[kind], out) for kind, out in wanted if out is not None]
            if "prompt" in spans:
                prompt = bytearray(spans["prompt"].size)
                members.append(reader.text("prompt", spans["prompt"], prompt))
            with self.underway(shard, min(m.offset for m in members), max(m.end for m in members)):
                read_members(self.storage, shard, members)
            if stored is not latents:
                self.metadata.normalise(stored, latents)
            if text is None or embedded is None or embedded is text:
                return prompt.decode()
            captions = prompt.decode().split("\n")
            chosen = drawn_caption(self.index.keys[row], epoch, min(len(captions), self.metadata.num_captions))
            text.copy_(embedded[chosen])
            return captions[chosen]
        except Unavailable as error:
            raise Unavailable(shard, self.index.keys[row], error.reason) from error
        except OSError as error:  # of the file system, such as a mount that is gone: the sample itself may be good
            raise Unavailable(shard, self.index.keys[row], str(error)) from error
        except (Unreadable, EOFError, UnicodeDecodeError) as error:
            raise BadSample(shard, self.index.keys[row], str(error)) from error

    def __getitem__(self, sample: int) -> Sample:
        latents = torch.empty(self.metadata.latent_shape, dtype=self.latent_dtype)
        shapes = ((self.metadata.text_shape, self.text_dtype), (self.metadata.context_shape, self.context_dtype))
        text, context = (torch.empty(shape, dtype=dtype) if shape is not None else None for shape, dtype in shapes)
        prompt = self.read_into(sample, latents, text, context)
        for kind, tensor in (("latent", latents), ("embed", text), ("context", context)):
            if tensor is not None and not all_finite(tensor):
                raise self.not_finite(self.key(sample), kind)
        return Sample(self.key(sample), latents, text, prompt, context)

    def not_finite(self, key: str, kind: str) -> BadSample:
        """The fault of a sample whose tensor ``kind`` holds NaN or infinite numbers."""
        shard = self.index.locate(self.index.keys.index(key), kind).shard
        return BadSample(shard, key, f"{kind}: NaN or infinite numbers")

    def split(self, held_out: int) -> tuple["ShardDataset", "ShardDataset"]:
        """(all others, ``held_out`` samples), chosen by key: the same samples in every run and order of shards."""
        if not 0 < held_out < len(self):
            raise BadValue("held_out", held_out, f"1 to {len(self) - 1}, fewer than the samples of {self.storage.name}")
        chosen = set(heapq.nsmallest(held_out, range(len(self)), key=lambda i: derived_seed("held out", self.key(i))))
        return self.subset([i for i in range(len(self)) if i not in chosen]), self.subset(sorted(chosen))

    def subset(self, samples: Sequence[int]) -> "ShardDataset":
        """The dataset of these samples only, numbered from 0; it shares files and index."""
        part = copy(self)
        part.rows = [self.rows[sample] for sample in samples]
        return part

    def stored(self, sample: int, kind: StoredTensor) -> Tensor:
        """One stored tensor, of any shape and dtype; raises EOFError or :class:`Unreadable`."""
        row = self.rows[sample]
        return self._reader.read(self.index.locate(row, kind))

    def extent(self, sample: int) -> tuple[str, int, int]:
        """(shard, start, stop) of the byte range that contains a sample's required members."""
        spans = [self.index.locate(self.rows[sample], kind) for kind in self.required]
        return spans[0].shard, min(s.offset for s in spans), max(s.offset + s.size for s in spans)

    def num_bytes(self, sample: int) -> int:
        """The total size of the sample's required members."""
        return sum(self.index.locate(self.rows[sample], kind).size for kind in self.required)

    def close(self) -> None:
        """Closes the files; reading opens them again."""
        self.storage.close()

    def _good_rows(self, refuse_few: bool) -> list[int]:
        damaged, faults, few = (
            self.index.damaged_shards(),
            self.index.faults(self.required),
            few_samples(self.index, self.metadata),
        )
        found = [*damaged, *faults.values(), *([few] if few is not None and refuse_few else [])]
        if found and (self.on_bad_sample == "error" or found == [few]):
            raise found[0] if len(found) == 1 else _several(found)
        for fault in found:
            log.warning("skipped: %s", fault)
        if faults:
            log.warning("skipped %d of %d samples of %s", len(faults), len(self.index), self.storage.name)
        return [row for row in range(len(self.index)) if row not in faults]


def drawn_caption(key: str, epoch: int | None, count: int) -> int:
    """Which of ``count`` captions a sample has in an epoch: a function of (key, epoch); the first one for None."""
    return int(derived_seed("caption", key, epoch) / 2**63 * count) if epoch is not None and count > 1 else 0


def _several(faults: Sequence[BadSample]) -> BadSample:
    first, others = faults[0], "; ".join(map(str, faults[1:4]))
    more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
    return BadSample(first.shard, first.key, f"{first.reason}; {others}{more}")


def few_samples(index: ShardIndex, metadata: DatasetMetadata) -> BadSample | None:
    """The fault of a folder that holds fewer samples than its metadata declares; more samples only give a warning."""
    declared, found = metadata.num_samples, len(index)
    if declared is not None and declared < found:
        log.warning("num_samples is %d, but the %d shards hold %d", declared, len(index.shards), found)
    if declared is None or declared <= found:
        return None
    reason = f"num_samples is {declared}, but the {len(index.shards)} shards hold {found}"
    return BadSample(DATASET_FILE, "", f"{reason}: some are missing, or the number is wrong")


def declared_metadata(storage: Storage, fallback: DatasetMetadata | None = None) -> DatasetMetadata:
    """The ``dataset.json`` of a folder, else ``fallback``; raises :class:`BadValue` if there is neither."""
    if (content := storage.read_file(DATASET_FILE)) is not None:
        return DatasetMetadata.from_json(content, f"{storage.name}/{DATASET_FILE}")
    if fallback is None:
        raise BadValue("metadata", None, f"the shapes of {storage.name}, which has no {DATASET_FILE}")
    return fallback
