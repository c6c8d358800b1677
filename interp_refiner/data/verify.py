"""Checks a whole data set for damage."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch

from interp_refiner.core import at_least
from interp_refiner.data.anchors import AnchorShards
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.shards import (
    BadSample,
    DatasetMetadata,
    LocalFolder,
    Storage,
    Unavailable,
    all_finite,
    unread,
)
from interp_refiner.data.shards.bad_sample import SampleFault

IN_FLIGHT = 4  # samples per thread that wait or are being checked; so memory does not grow with the data set


@dataclass(frozen=True)
class Fault:
    """One fault: the shard, the sample's key ("" if the whole shard or set is meant), and the reason."""

    shard: str
    key: str
    reason: str


@dataclass
class Report:
    """The result for one folder of shards.

    Attributes:
        root: the folder.
        shards, samples: their numbers.
        whole: number of undamaged samples.
        anchored: number of samples that have an anchor; None if anchors were not checked.
        num_bytes: total size of the samples that were read.
        seconds: duration of the check.
        faults: all faults.
    """

    root: str
    shards: int = 0
    samples: int = 0
    whole: int = 0
    anchored: int | None = None
    num_bytes: int = 0
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "clean": self.clean}


def verify(
    storage: Storage,
    metadata: DatasetMetadata | None = None,
    anchors: AnchorShards | None = None,
    threads: int = 4,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Reads every sample of a folder and compares it with the declaration.

    - Shards: no number is missing, every tar is complete, and there are only zeros between members.
    - Samples: their number is the declared one, keys are unique, no member is missing, the prompt is text.
    - Tensors: checksums, shapes, dtypes, finite values.
    - With ``anchors``: every sample has a fitting one.

    A sample is undamaged if a :class:`ShardDataset` with ``checksums`` can read it.

    Args:
        storage: the folder.
        metadata: for a folder without a ``dataset.json``.
        anchors: the samples' anchors.
        threads: samples read at the same time.
        progress: called with the number of samples checked so far and the number of all samples.

    Raises:
        BadValue: fewer than one thread, no shards, or nothing declares their shapes.
        Unavailable: a remote storage does not answer; the data may still be good.
    """
    at_least(1, threads=threads)
    start = time.monotonic()
    dataset = ShardDataset(storage, metadata, on_bad_sample="skip", threads=threads, min_samples=0, checksums=True)
    report = Report(storage.name, len(dataset.index.shards), len(dataset.index))
    found = [*dataset.index.damaged_shards(), *dataset.index.faults(dataset.required).values()]
    report.faults += [_fault(error) for error in found]
    report.faults += [Fault("", "", said) for said in unread(storage, dataset.index)]
    declared = dataset.metadata.num_samples
    if declared is not None and declared != report.samples:
        report.faults.append(
            Fault("", "", f"dataset.json declares {declared} samples, the shards hold {report.samples}")
        )
    if anchors is not None:
        report.anchored = 0
    for done, checked in enumerate(_checked(dataset, anchors, threads), 1):
        report.whole += checked.fault is None
        report.num_bytes += checked.num_bytes
        report.faults += [checked.fault] if checked.fault is not None else []
        if report.anchored is not None:
            report.anchored += checked.anchored
        progress(done, len(dataset))
    report.seconds = round(time.monotonic() - start, 3)
    return report


def verify_anchors(anchors: AnchorShards) -> Report:
    """The faults that the index of a folder of anchors shows; the tensors are checked together with their clips."""
    report = Report(anchors.storage.name, len(anchors.index.shards), len(anchors.index), len(anchors.rows))
    report.faults += map(_fault, anchors.faults)
    return report


@dataclass(frozen=True)
class _Checked:
    num_bytes: int
    anchored: bool
    fault: Fault | None


def _checked(dataset: ShardDataset, anchors: AnchorShards | None, threads: int) -> Iterator[_Checked]:
    """Checks every sample without a fault in the index, in order."""
    samples = iter(range(len(dataset)))
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        ahead = [pool.submit(_check, dataset, anchors, sample) for sample in islice(samples, IN_FLIGHT * threads)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(_check, dataset, anchors, sample) for sample in islice(samples, 1)]


def _check(dataset: ShardDataset, anchors: AnchorShards | None, sample: int) -> _Checked:
    shard, key = dataset.where(sample)
    anchored, num_bytes = anchors is not None and key in anchors.rows, dataset.num_bytes(sample)
    try:
        whole = dataset[sample]
        if dataset.metadata.num_captions > 1 and not all_finite(dataset.stored(sample, "embed")):
            raise dataset.not_finite(key, "embed")  # of a caption that was not drawn
        if anchors is not None:
            if not anchored:
                raise BadSample(shard, key, f"no anchor in {anchors.storage.name}")
            anchors.read_into(
                key, torch.empty_like(whole.latents), torch.empty(whole.latents.shape[1], dtype=torch.bool)
            )
    except BadSample as error:
        return _Checked(num_bytes, anchored, _fault(error))
    except Unavailable as error:
        if not isinstance(dataset.storage, LocalFolder):
            raise
        return _Checked(num_bytes, anchored, _fault(error))  # a bad sector of a disk, for example
    return _Checked(num_bytes, anchored, None)


def _fault(error: SampleFault) -> Fault:
    return Fault(error.shard, error.key, error.reason)


def summary(reports: Sequence[Report], listed: int = 20) -> str:
    """The reports as text, with the first ``listed`` faults of each."""
    lines = []
    for report in reports:
        anchored = f", {report.anchored} anchored" if report.anchored is not None else ""
        lines.append(
            f"{report.root}: {report.shards} shards, {report.samples} samples, {report.whole} undamaged{anchored}, "
            f"{len(report.faults)} faults ({report.num_bytes / 1e6:.1f} MB in {report.seconds:.1f} s)"
        )
        lines += [f"  {BadSample(fault.shard or 'set', fault.key, fault.reason)}" for fault in report.faults[:listed]]
        lines += [f"  and {more} more"] if (more := len(report.faults) - listed) > 0 else []
    return "\n".join(lines)
