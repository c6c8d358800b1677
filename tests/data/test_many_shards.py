"""Two hundred shards: neither memory nor open files grow with their number."""

import os
import tracemalloc
from itertools import islice

import pytest

from interp_refiner.data import BatchReader, ShardDataset, TrainLoader
from interp_refiner.data.shards import LocalFolder
from tests.data.shards_on_disk import write

FEW, MANY, OPEN = 20, 200, 8


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for count in (FEW, MANY):
        write(folder / str(count), count, per_shard=1)
    return folder


def read_epochs(root, samples: int) -> tuple[int, int, set[str]]:
    """(peak bytes while reading, most files open at once, keys read)."""
    storage = LocalFolder(root, max_open=OPEN)
    reader = BatchReader(ShardDataset(storage), threads=2)
    loader, seen, files = TrainLoader(reader, 2), set(), 0
    tracemalloc.start()
    for clip in islice(loader, samples // 2):
        seen |= set(clip.keys)
        files = max(files, sum(str(root) in target for target in open_files()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    reader.close(wait=True)
    storage.close()
    return peak, files, seen


def open_files() -> list[str]:
    links = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:
            continue
    return links


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_neither_memory_nor_open_files_grow_with_the_shards(roots):
    few_peak, _, few = read_epochs(roots / str(FEW), MANY)
    peak, files, seen = read_epochs(roots / str(MANY), MANY)
    assert (len(few), len(seen)) == (FEW, MANY)
    assert 0 < files <= OPEN + 2, "beyond the limit no more than the threads at work"
    assert peak < 1.5 * few_peak + 50_000
