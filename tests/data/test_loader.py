"""Loaders: every sample once per epoch over any number of ranks, and an exact position despite reading ahead."""

import itertools
import threading
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue
from interp_refiner.data import BadSample, BatchReader, EvalLoader, ShardDataset, TrainLoader, Unavailable
from interp_refiner.data.order import dealt, epoch_order, fixed_order, stream
from tests.data.shards_on_disk import Watched, replace_member, saved, write

COUNT = 14


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader") / "set"
    write(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def reader(root):
    return BatchReader(ShardDataset(root), threads=2)


CPU = torch.device("cpu")


def take(loader, batches):
    """(key, epoch) of the next batches, batch by batch, as they arrive on the device."""
    clips = (loader.to_device(clip, CPU) for clip in itertools.islice(loader, batches))
    return [list(zip(clip.keys, clip.epochs, strict=True)) for clip in clips]


def interleaved(ranks):
    """What several ranks got, in the order of the stream: round-robin within every global batch."""
    return [item for batches in zip(*ranks, strict=True) for items in zip(*batches, strict=True) for item in items]


@settings(max_examples=50)
@given(n=st.integers(1, 300), seed=st.integers(0, 9), epoch=st.integers(0, 5))
def test_an_epoch_is_a_permutation_of_its_own(n, seed, epoch):
    order = epoch_order(n, seed, epoch).tolist()
    assert sorted(order) == list(range(n))
    if n > 30:
        others = [epoch_order(n, seed, epoch + 1), epoch_order(n, seed + 1, epoch)]
        assert all(order != other.tolist() for other in others)
    assert [stream(epoch * n + i, n, seed) for i in range(n)] == [(epoch, i) for i in order]


@settings(max_examples=50)
@given(batch=st.integers(1, 5), world=st.integers(1, 5), start=st.integers(0, 1000))
def test_ranks_share_a_global_batch(batch, world, start):
    parts = [dealt(start, batch, rank, world) for rank in range(world)]
    assert all(len(part) == batch for part in parts)
    assert sorted(itertools.chain(*parts)) == list(range(start, start + batch * world))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 6), world=st.integers(1, 4), ahead=st.integers(0, 3), seed=st.integers(0, 3))
def test_any_number_of_ranks_sees_one_stream_with_every_sample_once_an_epoch(reader, batch, world, ahead, seed):
    steps = -(-2 * COUNT // (batch * world)) + 1
    ranks = [take(TrainLoader(reader, batch, seed, rank, world, ahead), steps) for rank in range(world)]
    seen = interleaved(ranks)
    expected = [stream(position, COUNT, seed) for position in range(steps * batch * world)]
    assert seen == [(f"clip-{sample:04d}", epoch) for epoch, sample in expected]
    for epoch in (0, 1):
        assert Counter(key for key, e in seen if e == epoch) == {f"clip-{i:04d}": 1 for i in range(COUNT)}


def test_a_batch_may_straddle_two_epochs(reader):
    clip = list(itertools.islice(TrainLoader(reader, 8), 2))[1]
    assert clip.epochs == [0] * 6 + [1] * 2


def test_clips_hold_what_was_written(root, reader):
    dataset = ShardDataset(root)
    clip = next(TrainLoader(reader, 5))
    for row, key in enumerate(clip.keys):
        sample = dataset[int(key[-4:])]
        assert torch.equal(clip.latents[row], sample.latents)
        assert torch.equal(clip.text[row], sample.text)
        assert clip.prompts[row] == sample.prompt
    assert clip.level is None


@pytest.mark.parametrize(("batch", "world", "length"), [(1, 1, 14), (4, 1, 3), (4, 3, 1), (7, 2, 1), (20, 1, 1)])
def test_length_is_the_whole_global_batches_of_an_epoch(reader, batch, world, length):
    assert len(TrainLoader(reader, batch, world_size=world)) == length


@pytest.mark.parametrize(("batch", "accumulated", "length"), [(1, 3, 12), (2, 2, 6), (4, 2, 2), (5, 4, 4)])
def test_an_epoch_of_lightnings_holds_whole_optimizer_steps(reader, batch, accumulated, length):
    assert len(TrainLoader(reader, batch, accumulated=accumulated)) == length


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.integers(0, 12),
    first=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    second=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    ahead=st.integers(0, 3),
)
def test_a_resumed_stream_goes_on_at_any_world_size(reader, before, first, second, ahead):
    """Whatever has been read ahead, what was handed out and what comes after resuming are the stream, without a gap."""
    batch, world = first
    loaders = [TrainLoader(reader, batch, 5, rank, world, ahead) for rank in range(world)]
    seen = interleaved([take(loader, before) for loader in loaders])
    states = [loader.state_dict() for loader in loaders]
    assert all(state == states[0] for state in states), "the state must not depend on the rank: one rank's is saved"
    batch, world = second
    resumed = [TrainLoader(reader, batch, 5, rank, world, 2) for rank in range(world)]
    for loader in resumed:
        loader.load_state_dict(states[0])
    seen += interleaved([take(loader, 4) for loader in resumed])
    assert seen == [(f"clip-{s:04d}", e) for e, s in (stream(p, COUNT, 5) for p in range(len(seen)))]


def test_iterating_again_goes_on(reader):
    loader = TrainLoader(reader, 3, seed=1)
    iter(loader)
    seen = take(loader, 2)
    again = iter(loader)
    seen += take(again, 2)
    assert [item for batch in seen for item in batch] == [
        (f"clip-{s:04d}", e) for e, s in (stream(p, COUNT, 1) for p in range(12))
    ]


def test_loading_after_reading_ahead_forgets_what_was_read(reader):
    loader = TrainLoader(reader, 3, read_ahead=3)
    first = take(loader, 1)
    state = loader.state_dict()
    take(loader, 2)
    loader.load_state_dict({**state, "position": 0})
    assert take(loader, 1) == first


def test_another_order_is_announced(reader, caplog):
    TrainLoader(reader, 3, seed=1).load_state_dict({"position": 6, "num_samples": 20, "seed": 1})
    assert "num_samples is 14 and was 20" in caplog.text


@pytest.mark.parametrize(
    ("batch", "ahead", "said"),
    [
        (2**63 - 1, 0, r"^batch_size=9223372036854775807: expected at most 8, because 0\.0 GB of memory are free"),
        (9, 0, "^batch_size=9: expected at most 8, "),
        (2, 2**63 - 1, "^read_ahead=9223372036854775807: expected at most 3, "),
        (8, 0, None),
        (2, 3, None),
    ],
)
def test_batches_that_do_not_fit_into_memory_are_refused(reader, monkeypatch, batch, ahead, said):
    monkeypatch.setattr("interp_refiner.data.loader.free_memory", lambda: 8 * reader.clip_bytes)
    with nullcontext() if said is None else pytest.raises(BadValue, match=said):
        TrainLoader(reader, batch, read_ahead=ahead)


def test_read_ahead_is_bounded(root):
    storage = Watched(root)
    loader = TrainLoader(BatchReader(ShardDataset(storage), threads=1), 2, read_ahead=3)
    storage.reads.clear()
    next(loader)
    loader.reader.close(wait=True)
    assert len(storage.reads) == 2 * (1 + 3), "four batches of two, each sample by one read"


def test_an_error_names_the_sample_and_comes_again(tmp_path):
    write(tmp_path / "set", 6)
    bad = torch.full((4, 5, 2, 4), float("nan")).bfloat16()
    replace_member(tmp_path / "set" / "shard-00000.tar", "clip-0003.latent.pt", saved(bad))
    loader = TrainLoader(BatchReader(ShardDataset(tmp_path / "set")), 2)
    seen: list[str] = []

    def go_on():
        while True:
            seen.extend(key for key, _ in take(loader, 1)[0])

    for _ in range(3):
        with pytest.raises(BadSample, match=r"shard-00000.tar: sample 'clip-0003': latent: NaN"):
            go_on()
    assert len(seen) == len(set(seen)) <= 4
    assert loader.state_dict()["position"] == len(seen)


@pytest.fixture
def damaged(tmp_path):
    """14 samples, of which numbers 3 and 8 cannot be used: one is found on the device, one when it is read."""
    write(tmp_path / "set", COUNT)
    infinite = saved(torch.full((4, 5, 2, 4), float("inf")).bfloat16())
    for number, bad in ((3, infinite), (8, infinite[:-100])):
        replace_member(tmp_path / "set" / f"shard-{number // 4:05d}.tar", f"clip-{number:04d}.latent.pt", bad)
    return BatchReader(ShardDataset(tmp_path / "set", on_bad_sample="skip"))


@pytest.mark.parametrize(("batch", "world"), [(4, 1), (3, 2), (5, 2), (7, 1)])
def test_skipping_makes_a_batch_smaller_and_moves_no_other_sample(damaged, reader, caplog, batch, world):
    bad = {"clip-0003", "clip-0008"}
    steps = -(-2 * COUNT // (batch * world))
    for rank in range(world):
        with_bad = take(TrainLoader(damaged, batch, 2, rank, world), steps)
        whole = take(TrainLoader(reader, batch, 2, rank, world), steps)
        assert with_bad == [[item for item in items if item[0] not in bad] for items in whole]
    assert "skipped: shard-00000.tar: sample 'clip-0003': latent: NaN or infinite numbers (" in caplog.text
    met = sum(stream(p, COUNT, 2)[1] in (3, 8) for p in range(steps * batch * world))
    assert damaged.skipped == len(caplog.records) == met, "counted when met, not when read ahead"


def test_where_nothing_is_left_of_a_batch_the_next_good_sample_stands_in(damaged, reader, caplog):
    bad = {"clip-0003", "clip-0008"}
    for world, rank in ((1, 0), (2, 0), (2, 1)):
        got = take(TrainLoader(damaged, 1, 2, rank, world), 2 * COUNT // world)
        order = [(f"clip-{s:04d}", e) for e, s in (stream(p, COUNT, 2) for p in range(3 * COUNT))]
        for step, items in enumerate(got):
            own, behind = order[step * world + rank], order[(step + 1) * world :]
            assert items == [own if own[0] not in bad else next(item for item in behind if item[0] not in bad)]
    assert "is used instead" in caplog.text


def test_a_set_without_a_good_sample_ends(tmp_path):
    write(tmp_path / "set", 3)
    for number in range(3):
        replace_member(tmp_path / "set" / "shard-00000.tar", f"clip-{number:04d}.latent.pt", b"nothing")
    reader = BatchReader(ShardDataset(tmp_path / "set", on_bad_sample="skip"))
    with pytest.raises(BadSample, match="every sample is bad"):
        next(TrainLoader(reader, 2))


class Hanging(Watched):
    def __init__(self, root):
        super().__init__(root)
        self.go = threading.Event()
        self.go.set()

    def read_into(self, shard, offset, buffers):
        self.go.wait(20)
        super().read_into(shard, offset, buffers)


def test_a_sample_that_does_not_arrive_is_named(root):
    storage = Hanging(root)
    reader = BatchReader(ShardDataset(storage), timeout=0.4)
    storage.go.clear()
    loader = TrainLoader(reader, 2, seed=3)
    first = f"clip-{stream(0, COUNT, 3)[1]:04d}"
    waiting = r"waiting for bytes \d+ to \d+ of shard-0000\d.tar, for 0.\d s"
    with pytest.raises(Unavailable, match=rf"shard-0000\d.tar: sample '{first}': not read within 0.4 s, {waiting}"):
        next(loader)
    storage.go.set()
    assert next(loader).keys[0] == first


# validation


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 9),
    levels=st.integers(1, 4),
    limit=st.one_of(st.none(), st.integers(4, 20)),
    world=st.integers(1, 4),
)
def test_every_held_out_sample_comes_once_at_every_level(reader, batch, levels, limit, world):
    seen: Counter = Counter()
    lengths = []
    for rank in range(world):
        loader = EvalLoader(reader, batch, levels, limit, rank, world)
        clips = list(loader)
        assert len(clips) == len(loader)
        lengths.append(len(clips))
        for clip in clips:
            assert clip.epochs is None
            assert clip.batch_size == len(clip.keys) == len(clip.prompts) == len(clip.level) <= batch
            seen.update(zip(clip.keys, clip.level.tolist(), strict=True))
    chosen = [f"clip-{i:04d}" for i in fixed_order(COUNT, limit)]
    assert seen == {(key, level): 1 for key in chosen for level in range(1, levels + 1)}
    assert max(lengths) - min(lengths) <= -(-levels // batch)  # one sample more or less


def test_levels_are_mixed_and_samples_read_once_a_batch(root):
    storage = Watched(root)
    dataset = ShardDataset(storage)
    loader = EvalLoader(BatchReader(dataset), 8, num_levels=4)
    storage.reads.clear()
    clips = list(loader)
    assert all(set(clip.level.tolist()) == {1, 2, 3, 4} for clip in clips)
    assert len(storage.reads) == COUNT
    for clip in clips:
        for row, key in enumerate(clip.keys):
            assert torch.equal(clip.latents[row], dataset[int(key[-4:])].latents)


def test_held_out_samples_are_read_in_inference_mode(reader):
    """Lightning validates in it; threads that fill a batch are outside of it."""
    loader = EvalLoader(reader, batch_size=4, num_levels=2, limit=3)
    expected = [clip.latents for clip in loader]
    with torch.inference_mode():
        clips = list(loader)
    assert all(torch.equal(clip.latents, latents) for clip, latents in zip(clips, expected, strict=True))


def test_a_limit_takes_the_same_samples_in_every_run(reader):
    first = [clip.keys for clip in EvalLoader(reader, 2, limit=5)]
    assert [clip.keys for clip in EvalLoader(reader, 2, limit=5)] == first
    more = [key for clip in EvalLoader(reader, 3, limit=9) for key in clip.keys]
    assert [key for keys in first for key in keys] == more[:5]
    assert more != sorted(more)


def test_without_levels_none_is_pinned(reader):
    clips = list(EvalLoader(reader, 4))
    assert all(clip.level is None for clip in clips)
    assert Counter(key for clip in clips for key in clip.keys) == {f"clip-{i:04d}": 1 for i in range(COUNT)}


def test_skipped_samples_are_left_out_at_every_level(damaged):
    seen = Counter()
    for clip in EvalLoader(damaged, 3, num_levels=4):
        assert clip.batch_size == len(clip.level) > 0
        seen.update(zip(clip.keys, clip.level.tolist(), strict=True))
    good = [f"clip-{i:04d}" for i in range(COUNT) if i not in (3, 8)]
    assert seen == {(key, level): 1 for key in good for level in range(1, 5)}


def test_no_rank_is_left_without_a_sample(reader):
    assert [len(EvalLoader(reader, 100, 2, rank=rank, world_size=3)) for rank in range(3)] == [1, 1, 1]
    with pytest.raises(BadValue, match="val_samples=2: expected at least 3, one for every process"):
        EvalLoader(reader, 100, 2, limit=2, world_size=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: TrainLoader(r, 0), "batch_size=0: expected at least 1"),
        (lambda r: TrainLoader(r, 1, read_ahead=-1), "read_ahead=-1: expected at least 0"),
        (lambda r: EvalLoader(r, 1, limit=0), "val_samples=0: expected at least 1"),
        (lambda r: BatchReader(r.clips, threads=0), "threads=0"),
        (lambda r: BatchReader(r.clips, timeout=0.0), "timeout=0.0"),
    ],
)
def test_bad_sizes_are_refused(reader, make, message):
    with pytest.raises(BadValue, match=message):
        make(reader)


def test_every_bucket_keeps_its_order(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        torch, "randperm", lambda n, generator, draw=torch.randperm: drawn.append(n) or draw(n, generator=generator)
    )
    for _ in range(3):
        for size in range(1001, 1008):
            for epoch in (0, 1):
                assert len(epoch_order(size, 77, epoch)) == size
    assert len(drawn) == 14
