"""Batches of clips: what is read when, read ahead by threads, with a position that can be saved.

Both loaders are sized, so that Lightning fetches no batch before it is asked for and a saved position is exact.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, final

import torch

from interp_refiner.core import BadValue, Clip, derived_seed
from interp_refiner.data.batch_reader import BatchReader, Pending
from interp_refiner.data.copying import beside
from interp_refiner.data.order import dealt, fixed_order, next_bucket, stream
from interp_refiner.data.shards import BadSample

log = logging.getLogger(__name__)


@final
class TrainLoader:
    """Batches of shuffled clips without end.

    All epochs, each a permutation drawn from (seed, epoch), are strung together to one stream of samples. The global
    batch that starts at stream position p holds ``[p, p + B W)``; rank r of W takes every W-th of them. So every sample
    comes once an epoch whatever the number of ranks, a batch may straddle two epochs (``Clip.epochs`` says which), and
    a stream position is all that has to be saved: resumed at another world size, the stream goes on where it was.

    Clips of several sizes have a stream a size (bucket), and a global batch is of one of them: of the one that is
    furthest behind in its epoch. A position a stream is all that has to be saved then.

    A bad sample that is skipped makes its batch smaller and moves no other sample. Where nothing is left of a rank's
    batch, the next good sample behind the global batch stands in, since all ranks must take the step; it comes once
    more in its own turn. Numbers that are not finite are found on the device, see :meth:`to_device`.

    Iterating again goes on where the last iteration was (Lightning does so at every epoch and after loading).

    Args:
        reader: of the training set.
        batch_size: B, samples a rank.
        seed: of the order.
        rank, world_size: which part of every global batch is this process's.
        read_ahead: batches read beyond the one that is waited for.
        accumulated: batches of an optimizer step. Lightning takes a step at the end of what it calls an epoch, however
            few batches have come, so that an epoch of its is made to hold whole steps.
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
        self.reader, self.batch_size, self.seed = reader, batch_size, seed
        self.rank, self.world_size, self.read_ahead, self.accumulated = rank, world_size, read_ahead, accumulated
        self.num_samples = len(reader.clips)
        self.buckets = reader.clips.buckets
        self._positions = [0] * len(self.buckets)  # in the streams: samples handed out, over all ranks
        self._ahead: deque[tuple[int, range, Pending]] = deque()
        self._last = 0  # the bucket of the batch that was handed out last
        for rows in self.buckets:
            if len(self.buckets) > 1 and len(rows) < self.global_batch_size:
                size = "x".join(map(str, reader.clips.locate(rows.start)[0].metadata.latent_shape))
                log.warning("%d clips of %s are fewer than a batch: it shows them again", len(rows), size)

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches of what Lightning calls an epoch: those of whole optimizer steps, at least one step."""
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
            self._forget()  # what failed is tried again if asked for again
            raise
        self._positions[bucket] += self.global_batch_size
        self._last = bucket
        return clip

    def _next(self) -> tuple[int, int]:
        """The bucket of the batch behind those that are being read, and where it starts in the bucket's stream."""
        positions = list(self._positions)
        for bucket, _, _ in self._ahead:
            positions[bucket] += self.global_batch_size
        bucket = next_bucket(positions, [len(rows) for rows in self.buckets])
        return bucket, positions[bucket]

    def to_device(self, clip: Clip, device: torch.device) -> Clip:
        """The batch that was handed out last, on its device, without samples whose numbers are not finite.

        There looking at them costs nothing: reading threads that look at what they have read are half as fast.
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
        raise AssertionError("the last of the others raises")

    def state_dict(self) -> dict[str, Any]:
        """The positions after the last batch that was handed out, however many have been read."""
        position = self._positions[0] if len(self.buckets) == 1 else list(self._positions)
        return {"position": position, "num_samples": self.num_samples, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on at a saved position; the world and the batch may have other sizes now."""
        for name in ("num_samples", "seed"):
            if state[name] != getattr(self, name):
                log.warning("%s is %s and was %s: the order of samples changes", name, getattr(self, name), state[name])
        self._forget()
        saved = state["position"]
        saved = [int(position) for position in saved] if isinstance(saved, Sequence) else [int(saved)]
        if len(saved) != len(self.buckets):
            log.warning("the clips have %d sizes and had %d: another order goes on", len(self.buckets), len(saved))
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
        """The samples of a stream from ``start`` on that can be read, one by one; each epoch has one, or none has."""
        for position in range(start, start + len(self.buckets[bucket])):
            if (clip := self._collect(self._submit(bucket, [position]))) is not None:
                log.warning("no whole sample in a batch: '%s' is used instead", clip.keys[0])
                yield clip
        raise BadSample(self.reader.clips.storage.name, "", "every sample is bad")

    def _forget(self) -> None:
        for _, _, pending in self._ahead:
            pending.cancel()
        self._ahead.clear()


@final
class EvalLoader:
    """Every sample once at every level, in an order that never changes, dealt over ranks sample by sample.

    Nothing is padded or repeated: ranks may differ by a sample, and the last batch may be smaller (so no collective in
    a validation step). Every rank has at least one sample, since Lightning would leave a rank without any out of the
    collectives that end a validation. A batch holds mixed levels; a sample is read once for all of its levels in a
    batch. A bad sample that is skipped is left out at all levels. Clips of several sizes come one size after the other.

    Args:
        reader: of the set.
        batch_size: (sample, level) pairs in a batch.
        num_levels: S, the levels 1..S that are pinned (``Clip.level``); None pins none, every sample comes once.
        limit: only the first so many samples of the order; None for all.
        rank, world_size: this process's part.
        read_ahead: batches read beyond the one that is waited for.

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
    if batch_size < 1:
        raise BadValue("batch_size", batch_size, "at least 1")
    if read_ahead < 0:
        raise BadValue("read_ahead", read_ahead, "at least 0")
