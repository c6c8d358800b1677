"""Reads batches with threads; every sample is read directly into its row of the batch."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import TIMEOUT_MAX
from typing import NamedTuple, final

import torch

from interp_refiner.core import BadValue, Clip, at_least
from interp_refiner.data.anchors import AnchorShards
from interp_refiner.data.batch_memory import batch_memory
from interp_refiner.data.mixed import Dataset
from interp_refiner.data.shards import DTYPES, BadSample, Unavailable, finite_rows
from interp_refiner.data.threads import DaemonPool

log = logging.getLogger(__name__)


class Pending(NamedTuple):
    """A batch that threads are reading, row by row."""

    samples: Sequence[int]
    clip: Clip
    prompts: "list[Future[str]]"

    def cancel(self) -> None:
        for prompt in self.prompts:
            prompt.cancel()


@final
class BatchReader:
    """Reads batches of a dataset; a thread reads one sample at a time, directly into its row of the batch.

    Args:
        dataset: the samples.
        threads: samples read at the same time.
        timeout: seconds after which a sample that does not arrive is an error.
        anchors: proposals, joined to the samples by key; None if there are none.

    Attributes:
        skipped: number of bad samples skipped so far (``dataset.on_bad_sample="skip"``).
    """

    def __init__(
        self,
        dataset: Dataset,
        threads: int = 4,
        timeout: float = 600.0,
        anchors: AnchorShards | None = None,
    ):
        at_least(1, threads=threads)
        if not 0 < timeout <= TIMEOUT_MAX:
            raise BadValue("timeout", timeout, f"a number of seconds > 0 and <= {TIMEOUT_MAX:g}")
        self.clips, self.anchors, self.threads, self.timeout = dataset, anchors, threads, timeout
        self.skipped = 0
        self.pool = DaemonPool(threads, "read")

    @property
    def clip_bytes(self) -> int:
        """Bytes of a clip's latents in a batch; the least, if clips have several sizes."""
        return min(math.prod(shape) for shape in self.clips.shapes) * DTYPES[self.clips.metadata.latent_dtype].itemsize

    @torch.inference_mode(False)  # else the reading threads could not write to these tensors
    def submit(self, samples: Sequence[int], epochs: Sequence[int] | None = None) -> Pending:
        """Starts reading ``samples`` of one size; ``epochs`` has the epoch of each, None outside training."""
        part, n = self.clips.locate(samples[0])[0], len(samples)
        metadata = part.metadata
        latents = batch_memory((n, *metadata.latent_shape), part.latent_dtype)
        clip = Clip(latents, [self.clips.key(sample) for sample in samples], list(epochs) if epochs else None)
        if metadata.text_shape is not None:
            clip.text = batch_memory((n, *metadata.text_shape), part.text_dtype)
        if metadata.context_shape is not None:
            clip.context = batch_memory((n, *metadata.context_shape), part.context_dtype)
        if self.anchors is not None:
            clip.proposals = batch_memory(latents.shape, latents.dtype)
            clip.proposed = batch_memory((n, metadata.num_frames), torch.bool)
        return Pending(samples, clip, [self.pool.submit(self._read, *row, clip) for row in enumerate(samples)])

    def _read(self, row: int, sample: int, clip: Clip) -> str:
        """Fills one row of a batch; returns the prompt."""
        text, context = (value[row] if value is not None else None for value in (clip.text, clip.context))
        epoch = clip.epochs[row] if clip.epochs is not None else None
        prompt = self.clips.read_into(sample, clip.latents[row], text, context, epoch)
        if self.anchors is not None and clip.proposals is not None and clip.proposed is not None:
            self.anchors.read_into(clip.keys[row], clip.proposals[row], clip.proposed[row])
        return prompt

    def collect(self, pending: Pending) -> tuple[Clip, list[int]]:
        """Waits for a batch; returns the clip of its good samples and their positions in the batch.

        It may contain NaN and infinite numbers, see :meth:`finite`.

        Raises:
            BadSample: for a bad sample, unless the dataset skips them.
            Unavailable: a sample did not arrive; names it and the read that has been waiting the longest.
        """
        prompts, places = [""] * len(pending.samples), []
        for place, (sample, prompt) in enumerate(zip(pending.samples, pending.prompts, strict=True)):
            try:
                prompts[place] = prompt.result(self.timeout)
                places.append(place)
            except BadSample as fault:
                self._bad(fault)
            except TimeoutError:
                raise self._not_arrived(sample) from None
        clip = replace(pending.clip, prompts=prompts)
        return (clip if len(places) == clip.batch_size else clip.select(places)), places

    def finite(self, clip: Clip) -> Clip | None:
        """The samples of a batch without NaN or infinite numbers, checked on the batch's device; None if none is left.

        On a GPU this waits for the current stream, see :func:`beside`.

        Raises:
            BadSample: for such a sample, unless the dataset skips them.
        """
        stored = {"latent": clip.latents, "embed": clip.text, "context": clip.context}
        finite = {kind: finite_rows(value) for kind, value in stored.items() if value is not None}
        kinds, good = list(finite), torch.stack(list(finite.values()), 1).tolist()
        rows = [row for row, found in enumerate(good) if all(found)]
        for row, found in enumerate(good):
            if not all(found):
                self._bad(self.clips.not_finite(clip.keys[row], kinds[found.index(False)]))
        if len(rows) == clip.batch_size:
            return clip
        return clip.select(rows) if rows else None

    def _bad(self, fault: BadSample) -> None:
        """Raises the fault of a sample, or counts and logs it, depending on ``dataset.on_bad_sample``."""
        if self.clips.on_bad_sample == "error":
            raise fault
        self.skipped += 1
        log.warning("skipped: %s (%d so far)", fault, self.skipped)

    def subset(self, samples: Sequence[int]) -> "BatchReader":
        """A reader of these samples only, numbered from 0, with its own threads."""
        return BatchReader(self.clips.subset(samples), self.threads, self.timeout, self.anchors)

    def close_files(self) -> None:
        """Closes the files; the next read opens them again."""
        self.clips.close()
        if self.anchors is not None:
            self.anchors.close()

    def _not_arrived(self, sample: int) -> Unavailable:
        read = self.clips.underway.oldest()
        waiting = f"waiting for {read}" if read is not None else "no read is under way"
        return Unavailable(*self.clips.where(sample), f"not read within {self.timeout:g} s, {waiting}")

    def close(self, wait: bool = False) -> None:
        """Ends the threads after they have read all submitted samples."""
        self.pool.close(wait)
