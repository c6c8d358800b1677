"""Loaders of clip batches: threads read ahead, and the position can be saved.

Both loaders have a length, so Lightning prefetches no batch and a saved position is exact.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, final

import torch

from interp_refiner.core import BadValue, Clip, at_least, derived_seed, free_memory
from interp_refiner.data.batch_reader import BatchReader, Pending
from interp_refiner.data.copying import beside
from interp_refiner.data.order import dealt, fixed_order, next_bucket, stream
from interp_refiner.data.shards import BadSample

log = logging.getLogger(__name__)


@final
class TrainLoader:
    """An endless sequence of batches of shuffled clips.

    Each epoch is a permutation drawn from (seed, epoch). All epochs together form one stream of samples. The global
    batch at stream position p holds the samples ``[p, p + B W)``; rank r of W takes every W-th of them. So every sample
    comes once per epoch for any number of ranks. A batch may contain two epochs (``Clip.epochs`` says which sample is
    of which). Only the stream position has to be saved; a run resumed at another world size continues the stream there.

    Clips of several sizes have one stream per size (bucket). A global batch takes one bucket: the one that is furthest
    behind in its epoch. Then one position per stream is saved.

    Skipping a bad sample makes its batch smaller and moves no other sample. If a rank's batch becomes empty, it takes
    the next good sample after the global batch, because all ranks must take the step. The stream still contains that
    sample at its own position. NaN and infinite numbers are found on the device, see :meth:`to_device`.

    A new iteration continues where the last one stopped (Lightning iterates anew at every epoch and after loading).

    Args:
        reader: of the training set.
        batch_size: B, samples per rank.
        seed: of the order.
        rank, world_size: select this process's part of every global batch.
        read_ahead: number of batches to read in advance.
        accumulated: batches per optimizer step. Lightning takes a step at the end of what it calls an epoch, even if
            fewer batches have come; so the loader's length is a whole number of steps.
    """

    def __init__(
        self,
        reader: BatchReader,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        read_ahead: int = 2,
        accumulated: int = 1,
    ):
        _check_sizes(batch_size, read_ahead)
        _check_memory(reader, batch_size, read_ahead)
        self.reader, self.batch_size, self.seed = reader, batch_size, seed
        self.rank, self.world_size, self.read_ahead, self.accumulated = rank, world_size, read_ahead, accumulated
        self.num_samples = len(reader.clips)
        self.buckets = reader.clips.buckets
        self._positions = [0] * len(self.buckets)  # in each stream: number of samples handed out, over all ranks
        self._ahead: deque[tuple[int, range, Pending]] = deque()
        self._last = 0  # the bucket of the batch that was handed out last
        for rows in self.buckets:
            if len(self.buckets) > 1 and len(rows) < self.global_batch_size:
                size = "x".join(map(str, reader.clips.locate(rows.start)[0].metadata.latent_shape))
                log.warning("%d clips of %s are fewer than a batch, so a batch repeats them", len(rows), size)

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """The number of batches in what Lightning calls an epoch: whole optimizer steps, at least one."""
        steps = self.num_samples // (self.global_batch_size * self.accumulated)
        return max(1, steps) * self.accumulated

    def __iter__(self) -> Iterator[Clip]:
        return self

    def __next__(self) -> Clip:
        while len(self._ahead) <= self.read_ahead:
            bucket, start = self._next()
            positions = dealt(start, self.batch_size, self.rank, self.world_size)
            self._ahead.append((bucket, positions, self._submit(bucket, positions)))
        try:
            bucket, positions, pending = self._ahead.popleft()
            clip = self._collect(pending) or next(self._others(bucket, positions.stop))
        except BaseException:
            self._forget()  # a failed batch is read again when it is requested again
            raise
        self._positions[bucket] += self.global_batch_size
        self._last = bucket
        return clip

    def _next(self) -> tuple[int, int]:
        """The bucket of the next batch to read, and the batch's start in the bucket's stream."""
        positions = list(self._positions)
        for bucket, _, _ in self._ahead:
            positions[bucket] += self.global_batch_size
        bucket = next_bucket(positions, [len(rows) for rows in self.buckets])
        return bucket, positions[bucket]

    def to_device(self, clip: Clip, device: torch.device) -> Clip:
        """The batch that was handed out last, on its device, without samples that have NaN or infinite numbers.

        The check costs nothing on the device. In the reading threads it would halve their speed.
        """
        try:
            for candidate in chain([clip], self._others(self._last, self._positions[self._last])):
                moved = beside(device, lambda: self.reader.finite(candidate.to(device, non_blocking=True)))  # noqa: B023
                if moved is not None:
                    return moved
        except BaseException:
            self._forget()
            self._positions[self._last] -= self.global_batch_size
            raise
        raise AssertionError("unreachable: _others raises at its end")

    def state_dict(self) -> dict[str, Any]:
        """The stream positions after the last batch that was handed out; batches read ahead do not count."""
        position = self._positions[0] if len(self.buckets) == 1 else list(self._positions)
        return {"position": position, "num_samples": self.num_samples, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at a saved position; world size and batch size may have changed."""
        for name in ("num_samples", "seed"):
            if state[name] != getattr(self, name):
                log.warning("%s is %s and was %s: the order of samples changes", name, getattr(self, name), state[name])
        self._forget()
        saved = state["position"]
        saved = [int(position) for position in saved] if isinstance(saved, Sequence) else [int(saved)]
        if len(saved) != len(self.buckets):
            log.warning("%d clip sizes, not %d as before: the order of samples changes", len(self.buckets), len(saved))
            saved = [sum(saved) * len(rows) // self.num_samples for rows in self.buckets]
        self._positions = saved

    def _submit(self, bucket: int, positions: Sequence[int]) -> Pending:
        rows = self.buckets[bucket]
        seed = self.seed if len(self.buckets) == 1 else derived_seed(self.seed, "bucket", bucket)
        epochs, places = zip(*(stream(p, len(rows), seed) for p in positions), strict=True)
        return self.reader.submit([rows[place] for place in places], epochs)

    def _collect(self, pending: Pending) -> Clip | None:
        clip, places = self.reader.collect(pending)
        return clip if places else None

    def _others(self, bucket: int, start: int) -> Iterator[Clip]:
        """The readable samples of a stream from ``start`` on, one by one; raises if a whole epoch has none."""
        for position in range(start, start + len(self.buckets[bucket])):
            if (clip := self._collect(self._submit(bucket, [position]))) is not None:
                log.warning("a batch has no good sample: '%s' is used instead", clip.keys[0])
                yield clip
        raise BadSample(self.reader.clips.storage.name, "", "every sample is bad")

    def _forget(self) -> None:
        for _, _, pending in self._ahead:
            pending.cancel()
        self._ahead.clear()


@final
class EvalLoader:
    """Every sample once at every level, in a fixed order; samples are distributed over the ranks one by one.

    Nothing is padded or repeated: the ranks' numbers of samples may differ by one, and the last batch may be smaller.
    So a validation step must not contain a collective operation. Every rank has at least one sample, because Lightning
    skips the collectives at the end of validation on a rank without samples. A batch holds mixed levels; a sample is
    read once for all of its levels in a batch. A bad sample that is skipped is left out at all levels. Clips of several
    sizes come one size after the other.

    Args:
        reader: of the data set.
        batch_size: (sample, level) pairs per batch.
        num_levels: S: every sample comes at the levels 1..S (``Clip.level``). None: once, without a level.
        limit: use only the first so many samples of the order; None for all.
        rank, world_size: select this process's part.
        read_ahead: number of batches to read in advance.

    Raises:
        BadValue: fewer samples than ranks.
    """

    def __init__(
        self,
        reader: BatchReader,
        batch_size: int,
        num_levels: int | None = None,
        limit: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        read_ahead: int = 2,
    ):
        _check_sizes(batch_size, read_ahead)
        if limit is not None and limit < 1:
            raise BadValue("val_samples", limit, "at least 1, or null for all")
        self.reader, self.read_ahead = reader, read_ahead
        samples = list(fixed_order(len(reader.clips), limit))
        if len(samples) < world_size:
            raise BadValue("val_samples", len(samples), f"at least {world_size}, one for every process")
        levels = range(1, num_levels + 1) if num_levels is not None else [None]
        self.batches: list[list[tuple[int, int | None]]] = []
        for rows in reader.clips.buckets:
            pairs = [(sample, level) for sample in samples[rank::world_size] if sample in rows for level in levels]
            self.batches += [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Clip]:
        batches = iter(self.batches)
        ahead: deque[tuple[list[tuple[int, int | None]], Pending]] = deque()
        try:
            while True:
                for pairs in islice(batches, self.read_ahead + 1 - len(ahead)):
                    ahead.append((pairs, self.reader.submit(list(dict.fromkeys(sample for sample, _ in pairs)))))
                if not ahead:
                    return
                clip = self._collect(*ahead.popleft())
                if clip is not None:
                    yield clip
        finally:
            for _, pending in ahead:
                pending.cancel()

    def _collect(self, pairs: list[tuple[int, int | None]], pending: Pending) -> Clip | None:
        clip, places = self.reader.collect(pending)
        finite = self.reader.finite(clip) if places else None
        if finite is None:
            return None
        clip, row = finite, {key: number for number, key in enumerate(finite.keys)}
        named = [(self.reader.clips.key(sample), level) for sample, level in pairs]
        kept = [(row[key], level) for key, level in named if key in row]
        rows = [number for number, _ in kept]
        levels = [level for _, level in kept if level is not None]
        if rows != list(range(clip.batch_size)):
            clip = clip.select(rows)
        return replace(clip, level=torch.tensor(levels) if levels else None)


def _check_sizes(batch_size: int, read_ahead: int) -> None:
    at_least(1, batch_size=batch_size)
    at_least(0, read_ahead=read_ahead)


def _check_memory(reader: BatchReader, batch_size: int, read_ahead: int) -> None:
    """Refuses batches that do not fit into the free memory together; the stream is endless and does not bound them."""
    batch, free = batch_size * reader.clip_bytes, free_memory()
    if free is None or (1 + read_ahead) * batch <= free:
        return
    name, value = ("batch_size", batch_size) if batch > free else ("read_ahead", read_ahead)
    most = free // reader.clip_bytes if batch > free else free // batch - 1
    raise BadValue(name, value, f"at most {most}, because {free / 1e9:.1f} GB of memory are free")
