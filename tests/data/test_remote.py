"""Remote stores: every sample arrives once despite faults, or the error names the sample and the reason."""

import itertools
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.data import (
    BadSample,
    BatchReader,
    ClipSource,
    EvalLoader,
    ShardDataset,
    ShardedDataModule,
    Stores,
    TrainLoader,
    Unavailable,
)
from interp_refiner.data.shards import CachedFolder, DatasetMetadata, RangeCache, RemoteFolder, Sample, write_shards
from interp_refiner.data.shards.remote import Retries
from tests.data.faulty_server import FAULTS, Hub, served
from tests.data.shards_on_disk import replace_member, saved, write
from tests.factories import make_corruption

COUNT = 14
QUICK = Retries(attempts=6, first_wait=0.01, timeout=5.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    write(folder / "set", COUNT)
    return folder


def remote(server, name="set", retries=QUICK, **kwargs) -> RemoteFolder:
    return RemoteFolder(f"{server.url}/{name}", retries=retries, **kwargs)


def assert_same(dataset, local):
    assert [dataset.key(i) for i in range(len(dataset))] == [local.key(i) for i in range(len(local))]
    for ours, theirs in ((dataset[i], local[i]) for i in range(len(local))):
        assert (ours.key, ours.prompt) == (theirs.key, theirs.prompt)
        assert torch.equal(ours.latents, theirs.latents)
        assert torch.equal(ours.text, theirs.text)


def test_a_remote_set_reads_like_a_local_one_by_one_request_a_sample(root):
    with served(root) as server:
        dataset = ShardDataset(remote(server))
        assert_same(dataset, ShardDataset(root / "set"))
        server.requests.clear()
        dataset[3]
        assert len(server.requests) == 1
        (_, start, stop), size = server.requests[0], os.path.getsize(root / "set" / "shard-00000.tar")
        assert stop - start < size / 3, "not the whole shard"


def test_the_client_of_the_hub_reads_no_more_than_it_is_asked_for(root):
    with served(root, handler=Hub, share=0.3, faults=("error", "short")) as server:
        options = {"endpoint": server.url, "token": False, "skip_instance_cache": True}
        dataset = ShardDataset(RemoteFolder("hf://datasets/me/clips/set", options, QUICK))
        assert_same(dataset, ShardDataset(root / "set"))
        assert sum(server.injected.values()) > 3
        server.requests.clear()
        dataset[3]
        size = os.path.getsize(root / "set" / "shard-00000.tar")
        assert all(stop - start < size / 3 for _, start, stop in server.requests), "not the whole shard"
        nothing = RemoteFolder("hf://datasets/me/clips/nowhere", options, QUICK)
        assert not nothing.holds_shards()


@pytest.mark.parametrize("protocol", ["s3", "hf", "gs"])
def test_any_file_system_that_fsspec_knows_by_the_protocol_serves(root, protocol, monkeypatch):
    """Where the store's own client is another one, by its interface alone: a file system in memory under its name."""
    kind = type("InMemory", (MemoryFileSystem,), {"protocol": protocol, "store": {}, "pseudo_dirs": [""]})
    monkeypatch.setitem(_registry, protocol, kind)
    memory = kind(skip_instance_cache=True)
    memory.put(str(root / "set"), f"{protocol}://bucket/clips", recursive=True)
    folder = Stores().open(f"{protocol}://bucket/clips")
    assert folder.holds_shards()
    assert_same(ShardDataset(folder), ShardDataset(root / "set"))
    assert not Stores().open(f"{protocol}://bucket/nothing").holds_shards()


def test_a_store_that_connects_at_once_and_does_not_answer_is_named(monkeypatch):
    class Connecting(MemoryFileSystem):
        protocol = "ftp"

        def __init__(self, **_):
            raise OSError(-2, "Name or service not known")

    monkeypatch.setitem(_registry, "ftp", Connecting)
    with pytest.raises(Unavailable, match=r"^ftp://nowhere/clips: .*Name or service not known"):
        Stores().open("ftp://nowhere/clips")


def test_where_nothing_is_listed_a_file_names_the_shards(root, tmp_path):
    write(tmp_path / "set", 6)
    (tmp_path / "set" / "shards.txt").write_text("shard-00000.tar\nshard-00001.tar\n")
    with served(tmp_path) as server:
        server.lists = False
        there = ShardDataset(remote(server))
        assert [there.key(i) for i in range(len(there))] == [f"clip-{i:04d}" for i in range(6)]
        (tmp_path / "set" / "shards.txt").write_text("shard-00001.tar\n")
        with pytest.raises(BadSample, match="num_samples is 6, but the 1 shards hold 2"):
            ShardDataset(remote(server))
        (tmp_path / "set" / "shards.txt").unlink()
        assert not remote(server).holds_shards()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_sample_arrives_once_whatever_fails(root, fault):
    """Two epochs over two ranks; a third of the requests fail, up to three times in a row."""
    with served(root, share=0.35, faults=(fault,), delay=0.02) as server:
        storage = remote(server)
        reader = BatchReader(ShardDataset(storage), threads=4)
        ranks = [TrainLoader(reader, 2, seed=3, rank=rank, world_size=2) for rank in range(2)]
        seen = Counter()
        for loader in ranks:
            for clip in itertools.islice(loader, COUNT // 2):
                seen.update(zip(clip.keys, clip.epochs, strict=True))
        assert seen == {(f"clip-{i:04d}", epoch): 1 for i in range(COUNT) for epoch in (0, 1)}
        assert server.injected[fault] > 3
        assert (storage.retried > 0) == (fault != "delay")
        assert_same(reader.clips, ShardDataset(root / "set"))


@pytest.mark.parametrize(
    ("fault", "cause"), [("error", "HTTP 503"), ("short", "bytes came, expected"), ("reset", "(Disconnected|reset)")]
)
def test_the_error_names_shard_key_and_cause_after_the_attempts(root, fault, cause):
    with served(root, share=0.0, faults=(fault,), in_a_row=100) as server:
        storage = remote(server, retries=Retries(attempts=3, first_wait=0.01))
        reader = BatchReader(ShardDataset(storage, on_bad_sample="skip"), threads=1)
        server.share = 1.0
        server.requests.clear()
        with pytest.raises(
            Unavailable, match=rf"shard-0000\d.tar: sample 'clip-\d+': bytes \d+ to \d+: .*{cause}"
        ) as e:
            next(TrainLoader(reader, 1, read_ahead=0))
        assert "(3 attempts)" in str(e.value)
        # where a connection that was kept open breaks, aiohttp by itself asks once more
        assert len(server.requests) in ((3, 6) if fault == "reset" else (3,))
        assert reader.skipped == 0, "an outage is no bad sample"
        server.share = 0.0
        assert len(next(TrainLoader(reader, 4)).keys) == 4


def test_an_attempt_is_given_up_after_its_time(root):
    with served(root, share=0.0, faults=("delay",), delay=1.0, in_a_row=100) as server:
        dataset = ShardDataset(remote(server, retries=Retries(attempts=2, first_wait=0.01, timeout=0.2)))
        server.share = 1.0
        with pytest.raises(Unavailable, match=r"sample 'clip-0000': .*no answer within 0.2 s \(2 attempts\)"):
            dataset[0]


def test_what_will_not_pass_is_not_asked_again(root, tmp_path):
    write(tmp_path / "set", 4)
    with served(tmp_path) as server:
        storage = remote(server)
        dataset = ShardDataset(storage)
        (tmp_path / "set" / "shard-00000.tar").unlink()
        with pytest.raises(Unavailable, match=r"shard-00000.tar: sample 'clip-0001': .* no longer has it"):
            dataset[1]
        assert storage.retried == 0


def test_waits_double_up_to_the_longest():
    retries = Retries(first_wait=1.0, longest_wait=5.0)
    for failed, longest in enumerate((1, 2, 4, 5, 5), 1):
        assert all(longest / 2 <= retries.wait(failed) <= longest for _ in range(20))


def test_a_damaged_remote_set_yields_no_partial_sample(tmp_path):
    write(tmp_path / "set", 8)
    path = tmp_path / "set" / "shard-00001.tar"
    path.write_bytes(path.read_bytes()[:9000])
    bad = torch.full((4, 5, 2, 4), float("nan")).bfloat16()
    replace_member(tmp_path / "set" / "shard-00000.tar", "clip-0002.latent.pt", saved(bad))
    with served(tmp_path) as server:
        reader = BatchReader(ShardDataset(remote(server), on_bad_sample="skip"))
        whole = {key for clip in EvalLoader(reader, 4) for key in clip.keys}
    assert whole >= {"clip-0000", "clip-0001", "clip-0003"}
    assert "clip-0002" not in whole
    assert whole < {f"clip-{i:04d}" for i in range(8)}
    assert reader.skipped == 1


# the cache


def cached(server, folder, max_bytes=10**9) -> CachedFolder:
    return CachedFolder(remote(server), RangeCache(folder, max_bytes))


@pytest.fixture
def large(tmp_path):
    """Samples whose ranges are long enough to be kept."""
    shape = (4, 16, 32, 24)
    written = [
        Sample(f"clip-{i:04d}", torch.randn(shape, generator=torch.Generator().manual_seed(i))) for i in range(6)
    ]
    write_shards(tmp_path / "web" / "set", written, DatasetMetadata(latent_shape=shape), samples_per_shard=3)
    return tmp_path


def latents_of(dataset):
    return torch.stack([dataset[i].latents for i in range(len(dataset))])


def test_what_was_read_once_comes_from_the_cache_until_the_shard_changes(large):
    expected = latents_of(ShardDataset(large / "web" / "set"))
    with served(large / "web") as server:
        assert torch.equal(latents_of(ShardDataset(cached(server, large / "cache"))), expected)
        warm = ShardDataset(cached(server, large / "cache"), cache_dir=large / "index")
        server.requests.clear()
        assert torch.equal(latents_of(warm), expected)
        assert len(server.requests) <= 1, "the first sample of a reader is parsed as a whole"
        os.utime(large / "web" / "set" / "shard-00000.tar", ns=(1, 1))
        again = ShardDataset(cached(server, large / "cache"))
        server.requests.clear()
        assert torch.equal(latents_of(again), expected)
        assert {path for path, _, _ in server.requests} == {"/set/shard-00000.tar"}


def test_the_cache_is_bounded_and_keeps_what_came_first(large):
    expected, bound = latents_of(ShardDataset(large / "web" / "set")), 250_000
    with served(large / "web") as server:
        for _ in range(2):
            dataset = ShardDataset(cached(server, large / "cache", bound))
            server.requests.clear()
            assert torch.equal(latents_of(dataset), expected)
            kept = [path for path in (large / "cache").rglob("*") if path.is_file() and path.name != ".total"]
            assert 0 < sum(path.stat().st_size for path in kept) <= bound
        assert len(kept) == 2
        assert len(server.requests) == 4


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, caplog):
    cache = RangeCache(tmp_path / "cache", 100)
    (tmp_path / "cache" / "a").write_text("a file where the folder should be")
    assert not cache.keep("a/b", [bytearray(b"12345")])
    assert "is not cached" in caplog.text
    assert cache.keep("c", [bytearray(b"12"), bytearray(b"345")])
    buffers = [bytearray(3), bytearray(2)]
    assert cache.read_into("c", buffers)
    assert buffers == [b"123", b"45"]
    assert not cache.read_into("c", [bytearray(9)])
    assert not cache.read_into("d", buffers)


def test_what_is_not_kept_takes_no_room(tmp_path, monkeypatch):
    cache = RangeCache(tmp_path / "cache", 10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
        for _ in range(3):
            assert not cache.keep("a", [bytearray(8)])
    assert cache.keep("a", [bytearray(8)])


def test_a_file_that_another_process_renames_is_no_fault(tmp_path, monkeypatch):
    cache = RangeCache(tmp_path / "cache", 100)
    cache.keep("a", [bytearray(5)])
    (tmp_path / "cache" / "b.writing").symlink_to("gone")  # listed, and gone when it is looked at
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert cache._measured() == 5


# as a user comes to it


def test_the_data_module_reads_a_url(root, tmp_path):
    write(tmp_path / "web" / "train", 9)
    write(tmp_path / "web" / "val", 3, prefix="held")
    with served(tmp_path / "web", share=0.2) as server:
        stores = Stores(attempts=8, first_wait=0.01, cache_dir=str(tmp_path / "cache"), cache_gb=0.01)
        data = ShardedDataModule(
            ClipSource(server.url, stores=stores, batch_size=3).open(), make_corruption("schedule.k_min=2")
        )
        keys = [key for clip in itertools.islice(data.train_dataloader(), 3) for key in clip.keys]
        assert sorted(keys) == [f"clip-{i:04d}" for i in range(9)]
        with pytest.raises(BadValue, match="nowhere: expected a folder with train/ and val/"):
            ClipSource(f"{server.url}/nowhere").open()


def test_an_unknown_store_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(BadValue, match="root=wan://bucket: expected a folder or the URL of a store that fsspec knows"):
        Stores().open("wan://bucket")

    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingExtra, match=r"root=s3://bucket/wan needs s3fs.*interp_refiner\[s3\]"):
        Stores().open("s3://bucket/wan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attempts": 0}, "attempts=0: expected at least 1"),
        ({"timeout": 0.0}, "timeout=0.0: expected a finite number > 0"),
        ({"first_wait": -1.0}, "first_wait=-1.0"),
        ({"cache_gb": -1.0}, "cache_gb=-1.0"),
        ({"cache_gb": 1.0}, "cache_dir=None: expected a local folder"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(BadValue, match=message):
        Stores(**arguments)


@pytest.mark.soak
def test_soak_of_faults(tmp_path, capsys):
    """Three epochs of 400 samples at two world sizes, a third of all requests failing in every way."""
    count, epochs = 400, 3
    write(tmp_path / "set", count, per_shard=16)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with served(tmp_path, share=0.33, delay=0.02) as server:
        storage = remote(server, retries=Retries(attempts=8, first_wait=0.005, timeout=10.0))
        reader = BatchReader(ShardDataset(storage), threads=8)
        seen, state = Counter(), None
        for world in (2, 5):
            ranks = [TrainLoader(reader, 2, 1, rank, world) for rank in range(world)]
            for loader in ranks if state else ():
                loader.load_state_dict(state)
            steps = count * epochs // 2 // (2 * world)
            for loader in ranks:
                for clip in itertools.islice(loader, steps):
                    seen.update(zip(clip.keys, clip.epochs, strict=True))
            state = ranks[0].state_dict()
    wanted = {(f"clip-{i:04d}", epoch) for i in range(count) for epoch in range(epochs)}
    lost, duplicated = len(wanted - set(seen)), sum(n - 1 for n in seen.values())
    with capsys.disabled():
        print(f"\nfaults injected {dict(server.injected)}, requests repeated {storage.retried}")
        print(f"samples read {sum(seen.values())}, lost {lost}, duplicated {duplicated}")
    assert (lost, duplicated) == (0, 0)
    assert set(server.injected) == set(FAULTS)
