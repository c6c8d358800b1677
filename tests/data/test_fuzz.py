"""Flipped bytes and cut files anywhere in a shard: always a report, the same by every way of reading."""

import random
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from interp_refiner.data import BadSample, BatchReader, EvalLoader, ShardDataset, verify
from interp_refiner.data.shards import LocalFolder
from tests.data.shards_on_disk import METADATA, write

SHARD = "shard-00000.tar"
KEYS = [f"clip-{i:04d}" for i in range(6)]
NAMED = re.compile(rf"{SHARD}: .*({'|'.join(KEYS)}|byte \d+|bytes of zeros)|num_samples")


class Verdict(NamedTuple):
    """What a way of reading makes of a shard: the samples it gives, and the faults it names."""

    whole: frozenset[str]
    faults: frozenset[str]


def by_verify(root: Path) -> Verdict:
    report = verify(LocalFolder(root), threads=1)
    bad = {fault.key for fault in report.faults}
    seen = set(ShardDataset(root, on_bad_sample="skip", min_samples=0).index.keys)
    assert report.whole == len(seen - bad)
    return Verdict(frozenset(seen - bad), frozenset(str(BadSample(f.shard, f.key, f.reason)) for f in report.faults))


def one_by_one(root: Path, order: list[str]) -> Verdict:
    """By a reader that skips, in any order: what has been read before makes no difference."""
    dataset = ShardDataset(root, on_bad_sample="skip", min_samples=0, checksums=True)
    index = dataset.index
    whole, faults = set(), {str(f) for f in [*index.damaged_shards(), *index.faults(dataset.required).values()]}
    number = {dataset.key(sample): sample for sample in range(len(dataset))}
    for key in sorted(number, key=order.index if set(number) <= set(order) else None):
        try:
            dataset[number[key]]
            whole.add(key)
        except BadSample as fault:
            faults.add(str(fault))
    return Verdict(frozenset(whole), frozenset(faults))


def in_batches(root: Path) -> frozenset[str]:
    """What the loader gives, each of it read into a batch."""
    dataset = ShardDataset(root, on_bad_sample="skip", min_samples=0, checksums=True)
    if len(dataset) == 0:
        return frozenset()
    return frozenset(key for clip in EvalLoader(BatchReader(dataset, threads=1), 4) for key in clip.keys)


def stops(root: Path) -> bool:
    """Whether a reader that does not skip stops, with the fault and nothing else."""
    try:
        dataset = ShardDataset(root, checksums=True)
        for sample in range(len(dataset)):
            dataset[sample]
    except BadSample:
        return True
    return False


def fuzz(folder: Path, flips: int, cuts: int, seed: int) -> dict[str, int]:
    """Damages a shard in many places, one at a time; counts what each way of reading did not see."""
    root, rng = folder / "set", random.Random(seed)
    written = {sample.key: sample for sample in write(root, len(KEYS), per_shard=len(KEYS), metadata=METADATA)}
    path = root / SHARD
    sound = path.read_bytes()
    assert by_verify(root) == one_by_one(root, KEYS) == Verdict(frozenset(KEYS), frozenset())
    counts = {"damaged": 0, "silent": 0, "partial": 0, "undecided": 0, "unnamed": 0}
    for number in range(flips + cuts):
        content = bytearray(sound)
        if number < flips:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        verdict, order = by_verify(root), rng.sample(KEYS, len(KEYS))
        read = [one_by_one(root, some) for some in (order, order[::-1])]
        counts["damaged"] += 1
        counts["silent"] += not any(NAMED.search(fault) for fault in verdict.faults) or not stops(root)
        counts["unnamed"] += not all(NAMED.search(fault) for fault in verdict.faults)
        lost = {fault for fault in verdict.faults if "num_samples" in fault or "declares" in fault}
        same = all(other == Verdict(verdict.whole, verdict.faults - lost) for other in read)
        counts["undecided"] += not same or in_batches(root) != verdict.whole
        dataset = ShardDataset(root, on_bad_sample="skip", min_samples=0)
        for sample in range(len(dataset)):
            if (key := dataset.key(sample)) in verdict.whole:
                got, put = dataset[sample], written[key]
                sound_sample = torch.equal(got.latents, put.latents.bfloat16()) and got.prompt == put.prompt
                counts["partial"] += not (sound_sample and torch.equal(got.text, put.text.bfloat16()))
    return counts


def test_damage_anywhere_is_named_alike_by_every_way_of_reading(tmp_path):
    assert fuzz(tmp_path, 60, 15, seed=0) == {"damaged": 75, "silent": 0, "partial": 0, "undecided": 0, "unnamed": 0}


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_damaged_shards(tmp_path, seed):
    counts = fuzz(tmp_path, 1000, 250, seed)
    print(counts)
    assert counts == {"damaged": 1250, "silent": 0, "partial": 0, "undecided": 0, "unnamed": 0}
