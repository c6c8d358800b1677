"""Small data sets for tests, intact and damaged."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import torch

from interp_refiner.data.shards import DatasetMetadata, LocalFolder, Sample, write_shards
from interp_refiner.data.shards.storage import Buffer

SHAPE, TEXT = (4, 5, 2, 4), (3, 6)
METADATA = DatasetMetadata(latent_shape=SHAPE, text_shape=TEXT)


def samples(count: int, seed: int = 0, prefix: str = "clip") -> list[Sample]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, *SHAPE, generator=generator)
    text = torch.randn(count, *TEXT, generator=generator)
    return [Sample(f"{prefix}-{i:04d}", latents[i], text[i], f"prompt {i} — é") for i in range(count)]


def write(root: Path, count: int, per_shard: int = 4, metadata: DatasetMetadata = METADATA, **kwargs) -> list[Sample]:
    written = samples(count, **kwargs)
    write_shards(root, written, metadata, samples_per_shard=per_shard)
    return written


def saved(value: object, **kwargs) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes] | Sequence[tuple[str, bytes]], **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **kwargs) as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read_members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def replace_member(path: Path, name: str, content: bytes | None) -> None:
    """Writes a shard anew with other content for one member, or without it."""
    members = read_members(path)
    members[name] = content
    write_tar(path, {n: c for n, c in members.items() if c is not None})


class Watched(LocalFolder):
    """A folder that notes what is read of it, and can be made to fail."""

    def __init__(self, root: Path, **kwargs):
        super().__init__(root, **kwargs)
        self.reads: list[tuple[str, int, int]] = []

    def read_into(self, shard: str, offset: int, buffers: Sequence[Buffer]) -> None:
        self.reads.append((shard, offset, sum(len(buffer) for buffer in buffers)))
        super().read_into(shard, offset, buffers)
