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
    """(bytes that the data package holds after reading so many samples, most files open at once, keys read)."""
    storage = LocalFolder(root, max_open=OPEN)
    reader = BatchReader(ShardDataset(storage), threads=2)
    loader, seen, files = TrainLoader(reader, 2), set(), 0
    tracemalloc.start()
    for clip in islice(loader, samples // 2):
        seen |= set(clip.keys)
        files = max(files, sum(str(root) in target for target in open_files()))
    held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/interp_refiner/data/*")])
    tracemalloc.stop()
    reader.close(wait=True)
    storage.close()
    return sum(trace.size for trace in held.traces), files, seen


def open_files() -> list[str]:
    links = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:
            continue
    return links


@pytest.mark.soak  # the limit of open files alone is in tests/data/test_read.py
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_neither_memory_nor_open_files_grow_with_the_shards(roots):
    few_held, _, few = read_epochs(roots / str(FEW), MANY)
    held, files, seen = read_epochs(roots / str(MANY), MANY)
    assert (len(few), len(seen)) == (FEW, MANY)
    assert 0 < files <= OPEN + 2, "beyond the limit no more than the threads at work"
    assert held < 1.5 * few_held + 20_000, "as much after 200 shards as after 20 that were read ten times"
