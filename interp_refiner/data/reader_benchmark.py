"""Compares the speed of reading samples with that of only reading the same bytes."""

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from interp_refiner.core import BadValue, at_least, check_least
from interp_refiner.data.batch_memory import batch_memory
from interp_refiner.data.batch_reader import BatchReader
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.declaration import check_declaration
from interp_refiner.data.loader import TrainLoader
from interp_refiner.data.order import epoch_order
from interp_refiner.data.shards import DATASET_FILE, DatasetMetadata, LocalFolder, Sample, build_index, write_shards
from interp_refiner.data.shards.tar import BLOCK

INDEXED_MEMBERS = 99_999  # of the shards that time the index, three per sample
SHARDS = 43


@dataclass(frozen=True)
class RandomSet:
    """A data set of random numbers.

    Attributes:
        latent_shape, text_shape: shapes of one sample, bfloat16.
        num_samples: samples in the set.
        samples_per_shard: samples in a shard.

    Raises:
        BadValue: fewer than 1 sample.
    """

    latent_shape: Sequence[int] = (16, 21, 60, 104)
    text_shape: Sequence[int] = (512, 4096)
    num_samples: int = 128
    samples_per_shard: int = 32

    def __post_init__(self) -> None:
        check_least(self, num_samples=1)


class ReaderBenchmark:
    """Times reading shuffled epochs against raw reads of the same bytes, all from a warm page cache.

    Three cases are timed: the first epoch of a new reader, which has to open and parse the files; its second epoch; and
    an epoch with checksums. The check for NaN and infinite numbers happens on the device
    (:meth:`TrainLoader.to_device`) and is timed separately.

    Raw reads are ``preadv`` of whole samples by as many threads, without parsing. There are two kinds. One reads into a
    single buffer per thread, which stays in the processor's cache; it is not a usable reader, because each sample
    overwrites the one before. The other reads into as much memory as the reader's batches take; this is the upper limit
    for any reader. A round runs all cases one after the other, so that they meet the same load. Ratios are taken per
    round; the median is reported.

    Args:
        folder: where the samples are, or are written if they are missing; 8.4 MB each at the full shapes.
        samples: the data set to read.
        batch_size, threads, read_ahead: of the loader.
        repeats: number of rounds; medians over them are reported.
        indexed_members: number of members in the shards that time the index.
    """

    def __init__(
        self,
        folder: str,
        samples: RandomSet = RandomSet(),
        batch_size: int = 2,
        threads: int = 4,
        read_ahead: int = 8,
        repeats: int = 7,
        indexed_members: int = INDEXED_MEMBERS,
    ):
        at_least(1, repeats=repeats, indexed_members=indexed_members)
        self.folder = Path(folder)
        self.num_samples, self.samples_per_shard = samples.num_samples, samples.samples_per_shard
        length, width = samples.text_shape
        self.metadata = DatasetMetadata(tuple(samples.latent_shape), text_shape=(length, width))
        self.batch_size, self.threads, self.read_ahead = batch_size, threads, read_ahead
        self.repeats, self.indexed_members = repeats, indexed_members

    def run(self, device: str) -> dict[str, Any]:
        """Speeds of readers and raw reads, their ratios, and times of first batch, index and check on ``device``."""
        self._write()
        with tempfile.TemporaryDirectory() as cache:
            dataset = ShardDataset(self.folder, cache_dir=cache)
            held = -(-self.batch_size * (self.read_ahead + 2) // self.threads)  # samples in memory per thread
            raw, kept = (_RawReads(dataset, self.threads, buffers) for buffers in (1, held))
            verifying = BatchReader(ShardDataset(self.folder, cache_dir=cache, checksums=True), self.threads)
            new: list[BatchReader] = []

            def first() -> None:
                found = ShardDataset(self.folder, cache_dir=cache)
                check_declaration(found)
                new[:] = [BatchReader(found, self.threads)]
                self._epoch(new[0])

            readers = [first, lambda: self._epoch(new[0]), lambda: self._epoch(verifying)]
            wall, cpu = self._alternating([raw.epoch, kept.epoch, *readers])
            first_batch = [self._first_batch(cache) for _ in range(self.repeats)]
            look = self._look(verifying, torch.device(device))
        samples = len(dataset)
        wall, cpu = (
            seconds / np.array([samples] * 2 + [samples // self.batch_size * self.batch_size] * 3)
            for seconds in (wall, cpu)
        )
        return {
            "mb_a_sample": round(raw.num_bytes / samples / 1e6, 3),
            "raw": _speed(wall[:, 0], cpu[:, 0]),
            "raw_into_memory_that_is_kept": _speed(wall[:, 1], cpu[:, 1]),
            **{
                name: {**_speed(wall[:, column], cpu[:, column]), **_ratios(wall, cpu, column)}
                for column, name in enumerate(("first_epoch", "later_epoch", "checksums"), 2)
            },
            "look_on_the_device": {"device": device, "ms_a_sample": look},
            "first_batch_s": round(median(first_batch), 3),
            **{name: getattr(self, name) for name in ("batch_size", "threads", "read_ahead", "repeats")},
            **self._index(),
        }

    def _look(self, reader: BatchReader, device: torch.device) -> float:
        """Milliseconds per sample that the check for NaN and infinite numbers takes on the device."""
        clip, _ = reader.collect(reader.submit(range(self.batch_size)))
        clip, seconds = clip.to(device), []
        for _ in range(2 * self.repeats):
            start = time.perf_counter()
            reader.finite(clip)
            seconds.append(time.perf_counter() - start)
        return round(1e3 * median(seconds) / self.batch_size, 3)

    def _write(self) -> None:
        """Writes the random samples once; a set of another size in the same folder is an error."""
        if (self.folder / DATASET_FILE).exists():
            found = DatasetMetadata.load(self.folder)
            if (found.latent_shape, found.num_samples) != (self.metadata.latent_shape, self.num_samples):
                raise BadValue("folder", self.folder, f"a new folder: it holds {found.num_samples} other samples")
            return
        generator = torch.Generator().manual_seed(0)
        latent_shape, text_shape = self.metadata.latent_shape, self.metadata.text_shape or ()

        def sample(number: int) -> Sample:
            latents, text = (torch.randn(shape, generator=generator) for shape in (latent_shape, text_shape))
            return Sample(f"clip-{number:06d}", latents, text, "a prompt")

        samples = map(sample, range(self.num_samples))
        write_shards(self.folder, samples, self.metadata, self.samples_per_shard)

    def _alternating(self, functions: Sequence[Callable[[], object]]) -> tuple[np.ndarray, np.ndarray]:
        """Wall and processor seconds ``[repeats, function]`` of functions run in turn, after one warm-up round."""
        wall, cpu = np.zeros((2, self.repeats + 1, len(functions)))
        for repeat in range(self.repeats + 1):
            for number, function in enumerate(functions):
                at, used = time.perf_counter(), time.process_time()
                function()
                wall[repeat, number] = time.perf_counter() - at
                cpu[repeat, number] = time.process_time() - used
        return wall[1:], cpu[1:]

    def _epoch(self, reader: BatchReader) -> None:
        loader = TrainLoader(reader, self.batch_size, read_ahead=0)
        loader.read_ahead = min(self.read_ahead, len(loader) - 1)
        for _ in islice(loader, len(loader) - loader.read_ahead):
            pass
        while loader.read_ahead > 0:  # end the epoch without reading ahead into the next one
            loader.read_ahead -= 1
            next(loader)

    def _first_batch(self, cache: str) -> float:
        """Seconds until the first batch of a new reader that finds a cached index."""
        start = time.perf_counter()
        reader = BatchReader(ShardDataset(self.folder, cache_dir=cache), self.threads)
        next(TrainLoader(reader, self.batch_size, read_ahead=self.read_ahead))
        seconds = time.perf_counter() - start
        reader.close(wait=True)
        return seconds

    def _index(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            members = _write_small_shards(Path(folder), self.indexed_members)
            start, used = time.perf_counter(), time.process_time()
            build_index(LocalFolder(folder))
            seconds, cpu = time.perf_counter() - start, time.process_time() - used
        per = 1e5 / members
        return {
            "index_members": members,
            "index_s_per_100k": round(seconds * per, 3),
            "index_cpu_s_per_100k": round(cpu * per, 3),
        }


def _speed(wall: np.ndarray, cpu: np.ndarray) -> dict[str, float]:
    """Medians over the rounds, per sample."""
    return {
        "samples_per_s": round(1 / float(np.median(wall)), 1),
        "cpu_ms_a_sample": round(1e3 * float(np.median(cpu)), 3),
    }


def _ratios(wall: np.ndarray, cpu: np.ndarray, column: int) -> dict[str, float]:
    """The speed of a reader relative to each kind of raw read: medians over the rounds."""
    return {
        f"ratio_{name}": round(float(np.median(seconds[:, against] / seconds[:, column])), 3)
        for against, to in enumerate(("", "to_kept_"))
        for name, seconds in ((f"{to}wall", wall), (f"{to}cpu", cpu))
    }


class _RawReads:
    """Reads all samples in the order of the first epoch, each by one call into one of its thread's buffers.

    Args:
        dataset: the samples.
        threads: number of reading threads.
        buffers: buffers per thread, used in turn.
    """

    def __init__(self, dataset: ShardDataset, threads: int, buffers: int):
        self.root, self.threads = Path(dataset.storage.name), threads
        spans = [dataset.extent(sample) for sample in epoch_order(len(dataset), 0, 0).tolist()]
        self.num_bytes = sum(stop - start for _, start, stop in spans)
        self.parts = [spans[number::threads] for number in range(threads)]
        longest = max(stop - start for _, start, stop in spans)
        self.buffers = [[_touched(longest) for _ in range(buffers)] for _ in range(threads)]

    def epoch(self) -> None:
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(self._read, self.parts, self.buffers))

    def _read(self, spans: Sequence[tuple[str, int, int]], buffers: Sequence[memoryview]) -> None:
        files = {name: os.open(self.root / name, os.O_RDONLY) for name in {shard for shard, _, _ in spans}}
        for (shard, start, stop), buffer in zip(spans, cycle(buffers), strict=False):
            os.preadv(files[shard], [buffer[: stop - start]], start)
        for file in files.values():
            os.close(file)


def _touched(size: int) -> memoryview:
    """A buffer whose pages are already allocated by the system."""
    memory = batch_memory((size,), torch.uint8).fill_(1)
    return memory.numpy().data


def _write_small_shards(root: Path, members: int) -> int:
    """Writes shards of samples with three members of a few bytes; returns the number of members."""
    samples = max(1, members // 3)
    for shard in range(SHARDS):
        content = io.BytesIO()
        for sample in range(shard, samples, SHARDS):
            for suffix in ("latent.pt", "embed.pt", "prompt.txt"):
                info = tarfile.TarInfo(f"clip-{sample:06d}.{suffix}")
                info.size = 8
                content.write(info.tobuf() + bytes(8).ljust(BLOCK, b"\0"))
        (root / f"shard-{shard:05d}.tar").write_bytes(content.getvalue() + bytes(2 * BLOCK))
    return 3 * samples
