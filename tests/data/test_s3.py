"""Shards in S3: the real client and a local server, ``pip install s3fs 'moto[server]'``."""

import itertools
import logging
import os
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import (
    BatchReader,
    ClipSource,
    ShardDataset,
    ShardedDataModule,
    Stores,
    TrainLoader,
    Unavailable,
)
from interp_refiner.data.shards import RemoteFolder
from interp_refiner.data.shards.remote import Retries
from tests.data.faulty_server import FAULTS
from tests.data.shards_on_disk import write
from tests.data.test_remote import COUNT, assert_same
from tests.factories import make_corruption

pytest.importorskip("s3fs")
werkzeug_app = pytest.importorskip("moto.moto_server.werkzeug_app")
serving = pytest.importorskip("werkzeug.serving")

WITHIN = [fault for fault in FAULTS if fault != "reset"]  # what a WSGI application can do
QUICK = Retries(attempts=8, first_wait=0.01, timeout=10.0)
ANYONE = {"key": "anyone", "secret": "anything"}


class Faulty:
    """The server's application, which fails in a share of the requests for ranges of bytes."""

    def __init__(self, app):
        self.app, self.share, self.faults, self.delay = app, 0.0, WITHIN, 0.02
        self.injected, self.ranges = Counter(), []
        self._random, self._lock = random.Random(0), threading.Lock()

    def __call__(self, environ, start_response):
        wanted = environ.get("HTTP_RANGE")
        fault = None
        if wanted is not None:
            with self._lock:
                self.ranges.append(tuple(int(n) for n in wanted.removeprefix("bytes=").split("-")))
                if self._random.random() < self.share:
                    fault = self._random.choice(self.faults)
                    self.injected[fault] += 1
        if fault == "error":
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        if fault == "delay":
            time.sleep(self.delay)
        if fault not in ("short", "cut"):
            return self.app(environ, start_response)
        return self.half(environ, start_response, fault)

    def half(self, environ, start_response, fault):
        """Half of an answer; a short one says so, a cut one promises all of it."""
        answer = []
        body = b"".join(self.app(environ, lambda status, headers, *_: answer.extend((status, headers))))
        headers = dict(answer[1])
        if fault == "short":
            headers["Content-Length"] = str(len(body) // 2)
        start_response(answer[0], [*headers.items(), ("Connection", "close")])
        return [body[: len(body) // 2]]


@contextmanager
def bucket(folder):
    """A server with a bucket ``clips`` that holds what is in a folder, and the options of a client of it."""
    faulty = Faulty(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = serving.make_server("127.0.0.1", 0, faulty, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import s3fs

    options = {**ANYONE, "endpoint_url": f"http://127.0.0.1:{server.port}", "skip_instance_cache": True}
    client = s3fs.S3FileSystem(**options)
    client.mkdir("clips")
    client.put(str(folder), "clips/", recursive=True)
    try:
        yield faulty, options
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3") / "set"
    write(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def server(root):
    with bucket(root) as found:
        yield found


@pytest.fixture
def served(server):
    yield server
    server[0].share = 0.0


def test_a_set_in_a_bucket_reads_like_a_local_one_by_one_range_a_sample(served, root):
    faulty, options = served
    dataset = ShardDataset(RemoteFolder("s3://clips/set", options, QUICK))
    assert_same(dataset, ShardDataset(root))
    faulty.ranges.clear()
    dataset[3]
    (first, last), size = faulty.ranges[0], os.path.getsize(root / "shard-00000.tar")
    assert len(faulty.ranges) == 1
    assert last - first < size / 3, "not the whole shard"
    assert not RemoteFolder("s3://clips/nowhere", options, QUICK).holds_shards()


@pytest.mark.parametrize("fault", WITHIN)
def test_every_sample_arrives_once_whatever_fails(served, root, fault):
    faulty, options = served
    faulty.share, faulty.faults = 0.3, [fault]
    storage = RemoteFolder("s3://clips/set", options, QUICK)
    reader = BatchReader(ShardDataset(storage), threads=4)
    seen = Counter()
    for rank in range(2):
        for clip in itertools.islice(TrainLoader(reader, 2, seed=3, rank=rank, world_size=2), COUNT // 2):
            seen.update(zip(clip.keys, clip.epochs, strict=True))
    assert seen == {(f"clip-{i:04d}", epoch): 1 for i in range(COUNT) for epoch in (0, 1)}
    assert faulty.injected[fault] > 3
    assert_same(reader.clips, ShardDataset(root))


def test_the_error_names_shard_key_and_cause_after_the_attempts(served):
    faulty, options = served
    dataset = ShardDataset(RemoteFolder("s3://clips/set", options, Retries(attempts=2, first_wait=0.01)))
    faulty.share, faulty.faults = 1.0, ["short"]
    with pytest.raises(Unavailable, match=r"shard-00000.tar: sample 'clip-0001': bytes \d+ to \d+: .*\(2 attempts\)"):
        dataset[1]


def test_the_data_module_reads_a_bucket(served, tmp_path):
    _, options = served
    stores = Stores(options=options, cache_dir=str(tmp_path / "cache"), cache_gb=0.01)
    clips = ClipSource("s3://clips/set", stores=stores, held_out=4)
    data = ShardedDataModule(clips.open(), make_corruption("schedule.k_min=2"))
    clip = next(iter(data.train_dataloader()))
    assert torch.isfinite(clip.latents).all()
    with pytest.raises(BadValue, match="nowhere: expected a folder with train/ and val/"):
        ClipSource("s3://clips/nowhere", stores=stores).open()
