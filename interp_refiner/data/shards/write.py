"""Writes samples as Wan-synth shards: plain tars of ``{key}.latent.pt``, ``{key}.embed.pt``, ``{key}.prompt.txt``."""

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, at_least
from interp_refiner.data.shards.metadata import DatasetMetadata
from interp_refiner.data.shards.tar import BLOCK, RECORD, header_with_crc


@dataclass(frozen=True)
class Sample:
    """One stored clip: key, latents ``[C, T, *space]``, prompt embedding ``[L, D]``, prompt and maps.

    With several captions per sample: embeddings ``[M, L, D]``, and a prompt with one line per caption.
    """

    key: str
    latents: Float[Tensor, "c t *space"]
    text: Float[Tensor, "*m l d"] | None = None
    prompt: str = ""
    context: Float[Tensor, " k *grid"] | None = None

    def members(self, metadata: DatasetMetadata) -> Iterator[tuple[str, bytes]]:
        """The members as (suffix, content); shapes must match the declared ones."""
        yield ".latent.pt", _saved(self.key, self.latents, metadata.latent_shape, metadata.latent_dtype)
        optional = (
            ("embed", "text", self.text, metadata.stored_text_shape, metadata.text_dtype),
            ("context", "context", self.context, metadata.context_shape, metadata.context_dtype),
        )
        for kind, name, tensor, shape, dtype in optional:
            if shape is not None:
                if tensor is None:
                    raise BadValue(f"{self.key}.{name}", None, f"a tensor of the declared shape {list(shape)}")
                yield f".{kind}.pt", _saved(self.key, tensor, shape, dtype)
        yield ".prompt.txt", self.prompt.encode()


@dataclass(frozen=True)
class Anchor:
    """Stored proposals for k frames of a clip: its key, latents ``[C, k, *space]`` and frame indices."""

    key: str
    latents: Float[Tensor, "c k *space"]
    frames: Int[Tensor, " k"]

    def members(self, metadata: DatasetMetadata) -> Iterator[tuple[str, bytes]]:
        """The members as (suffix, content); shapes must match the declared shape of the whole clip."""
        channels, _, *space = metadata.latent_shape
        shape = (channels, len(self.frames), *space)
        yield ".anchor.pt", _saved(self.key, self.latents, shape, metadata.latent_dtype)
        yield ".anchor_idx.pt", _saved(self.key, self.frames, (len(self.frames),), "int64")


def write_shards(
    root: Path | str,
    samples: Iterable[Sample | Anchor],
    metadata: DatasetMetadata,
    samples_per_shard: int = 256,
    digits: int = 5,
) -> Path:
    """Writes a data set: ``<root>/shard-00000.tar`` ... and ``<root>/dataset.json``.

    Everything goes to a temporary folder beside ``root`` that is renamed at the end, so ``root`` holds a whole set or
    does not exist. Tensors are cast to the declared dtypes; ``num_samples`` is filled in.

    Args:
        root: the folder to make; it may exist only if it is empty.
        samples: read once, never held beyond one sample.
        metadata: shapes and dtypes that every sample must have.
        samples_per_shard: samples in every shard but the last.
        digits: of the shard's number in its name.

    Returns:
        ``root``.

    Raises:
        FileExistsError: ``root`` is not empty.
        BadValue: there is no sample, a key is used twice or contains '/', or a shape is not the declared one.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} is not an empty folder: shards are never written over others")
    at_least(1, samples_per_shard=samples_per_shard)
    root.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(root) as partial:
        stream, keys, shard = iter(samples), set[str](), 0
        while first := list(islice(stream, 1)):
            path = partial / f"shard-{shard:0{digits}d}.tar"
            write_shard(path, chain(first, islice(stream, samples_per_shard - 1)), metadata, keys)
            shard += 1
        if not keys:
            raise BadValue("samples", "none", "at least one sample")
        replace(metadata, num_samples=len(keys)).save(partial)
    return root


def write_shard(path: Path, samples: Iterable[Sample | Anchor], metadata: DatasetMetadata, keys: set[str]) -> None:
    """Writes one shard and adds its keys to ``keys``; no key may be in ``keys`` already."""
    with ShardWriter(path, metadata, keys) as shard:
        for sample in samples:
            shard.add(sample)


@final
class ShardWriter:
    """Writes one shard sample by sample; the last samples can be removed again.

    Args:
        path: the tar file.
        metadata: shapes and dtypes that every sample must have.
        keys: keys of the data set so far; a new key must not be among them.
    """

    def __init__(self, path: Path, metadata: DatasetMetadata, keys: set[str]):
        self.path, self.metadata, self.keys = path, metadata, keys
        self.added: list[str] = []
        self._file = open(path, "wb")  # noqa: SIM115

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        self._file.close()

    def add(self, sample: Sample | Anchor) -> None:
        """Appends a sample; raises :class:`BadValue` for a key that is used already or has a '/', or a wrong shape."""
        if sample.key in self.keys or not sample.key or "/" in sample.key or sample.key != sample.key.strip():
            raise BadValue("key", sample.key, "a name without '/', used once in a data set")
        self.keys.add(sample.key)
        self.added.append(sample.key)
        for suffix, content in sample.members(self.metadata):
            header = header_with_crc(f"{sample.key}{suffix}", content).tobuf(tarfile.PAX_FORMAT, "utf-8")
            self._file.write(header + content + bytes(-len(content) % BLOCK))

    def mark(self) -> tuple[int, int]:
        """The current position for :meth:`back_to`: numbers of bytes and of samples so far."""
        return self._file.tell(), len(self.added)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Removes every sample that was added after ``mark``."""
        end, samples = mark
        self.keys.difference_update(self.added[samples:])
        del self.added[samples:]
        self._file.seek(end)
        self._file.truncate()

    def close(self) -> None:
        """Ends the tar and flushes it to the disk."""
        end = self._file.tell() + 2 * BLOCK
        self._file.write(bytes(2 * BLOCK + -end % RECORD))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _saved(key: str, tensor: Tensor, shape: tuple[int, ...], dtype: str) -> bytes:
    if tuple(tensor.shape) != shape:
        raise BadValue(f"{key}: shape", list(tensor.shape), f"the declared {list(shape)}")
    # copy, because torch.save stores the whole batch of a view; contiguous, so that it can be read in place
    tensor = (
        tensor.detach().to("cpu", getattr(torch, dtype), copy=True, memory_format=torch.contiguous_format).contiguous()
    )
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    return buffer.getvalue()


@contextmanager
def _replacing(root: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``root`` if the block succeeds, and is removed if it fails."""
    partial = root.parent / f".{root.name}.partial-{secrets.token_hex(4)}"
    partial.mkdir()  # with the usual permissions; tempfile would set 0700
    try:
        yield partial
        os.rename(partial, root)  # replaces only an empty folder; the rename fails if ``root`` has files
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
