"""The data module inside Lightning: exact resume, streams, precision, shared read-only data, refusals."""

import logging
import threading
import warnings
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from interp_refiner.core import BadValue, Clip
from interp_refiner.data import (
    Anchors,
    BadSample,
    ClipSource,
    DatasetMetadata,
    ImperfectSource,
    Reading,
    Sample,
    ShardedDataModule,
)
from interp_refiner.forward.corruption import BrownianBridge, Corruption
from interp_refiner.forward.interpolator import Linear
from interp_refiner.forward.schedule import ClipPreview, Learned, Selector, Uniform
from interp_refiner.forward.scheduled_sampling import Phase1, Probability
from tests.data.shards_on_disk import METADATA, SHAPE, replace_member, saved, write

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
TRAIN, VAL, LEVELS = 14, 5, 3


class Recording(Corruption):
    """The real corruption, which notes what it was given."""

    def __init__(self):
        super().__init__(Uniform(k_min=2, num_levels=LEVELS, counts=[4, 3, 2]), Linear(), BrownianBridge())
        self.calls: list[tuple[str, Clip]] = []

    def __call__(self, clip, stream):
        assert not torch.is_grad_enabled()
        self.calls.append((stream, clip))
        return super().__call__(clip, stream)


class Probe(L.LightningModule):
    """One weight whose value depends on every number of every batch it was trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(SHAPE[0]))
        self.seen: list[list[tuple[str, int]]] = []
        self.steps: list[int] = []

    def training_step(self, corrupted, index):
        clip = corrupted.clip
        self.steps.append(self.trainer.global_step)
        self.seen.append(list(zip(clip.keys, clip.epochs, strict=True)))
        return (torch.einsum("c,bcthw->bthw", self.weight, corrupted.x) - corrupted.clean.mean(1)).square().mean()

    def validation_step(self, corrupted, index):
        assert not corrupted.x.requires_grad

    test_step = validation_step
    predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("module") / "set"
    write(folder / "train", TRAIN)
    write(folder / "val", VAL, seed=1, prefix="held")
    return folder


def source(root, **settings) -> ClipSource:
    return ClipSource(str(root), **{"batch_size": 4, "val_batch_size": 4, **settings})


def module(root, corruption=None, **settings) -> ShardedDataModule:
    return ShardedDataModule(source(root, **settings).open(), corruption or Recording())


def trainer(**kwargs) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"accelerator": "cpu", "enable_checkpointing": False, "num_sanity_val_steps": 0}
    return L.Trainer(**{**quiet, **defaults, **kwargs})


def fit(root, steps, folder=None, resume=None, **kwargs) -> Probe:
    probe = Probe()
    if folder is not None:
        every = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)
        kwargs |= {"callbacks": [every], "enable_checkpointing": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(max_steps=steps, **kwargs).fit(probe, datamodule=module(root), ckpt_path=resume)
    return probe


def test_its_text_says_how_many_clips_it_has(root):
    text = str(module(root))
    assert text == f"ShardedDataModule({TRAIN} training clips and {VAL} held-out clips {list(SHAPE)})"


@pytest.mark.parametrize(("steps", "accumulate"), [(9, 1), (5, 2)])
def test_resuming_at_any_step_continues_the_same_run(root, tmp_path, steps, accumulate):
    """An epoch of Lightning's is 3 batches of 4 out of 14 samples: steps in the first, the second and the third."""
    options = {"accumulate_grad_batches": accumulate, "limit_val_batches": 1}
    whole = fit(root, steps, tmp_path, **options)
    flat = [item for batch in whole.seen for item in batch]
    assert len(set(flat)) == len(flat), "a sample came twice in one epoch"
    assert {epoch for _, epoch in flat} >= {0, 1}
    for step in range(1, steps):
        resumed = fit(root, steps, resume=tmp_path / f"step={step}.ckpt", **options)
        rest = [batch for batch, at in zip(whole.seen, whole.steps, strict=True) if at >= step]
        assert resumed.seen == rest
        assert torch.equal(resumed.weight, whole.weight)


def test_epochs_of_lightning_run_on_through_the_stream(root):
    seen = [item for batch in fit(root, 7, limit_val_batches=0).seen for item in batch]
    assert len(seen) == len(set(seen)) == 28
    assert [epoch for _, epoch in seen] == [0] * TRAIN + [1] * TRAIN


def test_every_stage_is_corrupted_under_its_stream(root):
    data, probe = module(root), Probe()
    runner = trainer(max_steps=2, num_sanity_val_steps=2, val_check_interval=2)
    runner.fit(probe, datamodule=data)
    streams = [stream for stream, _ in data.corruption.calls]
    assert streams == ["val"] * 2 + ["train"] * 2 + ["val"] * 4  # sanity, training, 5 clips x 3 levels by 4
    for run in (runner.validate, runner.test, runner.predict):
        data.corruption.calls.clear()
        run(probe, datamodule=data)
        pairs = [
            (key, level)
            for stream, clip in data.corruption.calls
            for key, level in zip(clip.keys, clip.level.tolist(), strict=True)
            if stream == "val" and clip.epochs is None
        ]
        assert sorted(pairs) == [(f"held-{i:04d}", level) for i in range(VAL) for level in range(1, LEVELS + 1)]


@pytest.mark.parametrize(("steps", "accumulate"), [(3, 1), (2, 2)])
def test_the_corruption_is_told_the_optimizer_step(root, tmp_path, steps, accumulate):
    """A resumed run goes on at its step, so what is ramped over steps goes on where it was."""
    options = {"accumulate_grad_batches": accumulate, "limit_val_batches": 1, "val_check_interval": 1}
    fit(root, 1, tmp_path, **options)
    for resume, first in ((None, 0), (tmp_path / "step=1.ckpt", 1)):
        data, probe = module(root), Probe()
        trainer(max_steps=steps, **options).fit(probe, datamodule=data, ckpt_path=resume)
        told = {stream: [c.step for s, c in data.corruption.calls if s == stream] for stream in ("train", "val")}
        assert told["train"] == probe.steps
        assert (probe.steps[0], probe.steps[-1]) == (first, steps - 1)
        assert set(told["val"]) == {None}


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)]
)
def test_clips_are_corrupted_in_the_precision_of_the_run(root, precision, dtype):
    data = module(root)
    trainer(max_steps=1, limit_val_batches=1, precision=precision).fit(Probe(), datamodule=data)
    for _, clip in data.corruption.calls:
        assert (clip.latents.dtype, clip.text.dtype) == (dtype, dtype)


def test_overfitting_repeats_the_same_samples(root):
    probe = fit(root, 6, overfit_batches=1)
    assert len({frozenset(key for key, _ in batch) for batch in probe.seen}) == 1
    assert [batch[0][1] for batch in probe.seen] == list(range(6))


def test_the_seed_orders_and_nothing_else_does(root):
    def order(seed, **kwargs):
        data = module(root, reading=Reading(seed=seed), **kwargs)
        return [next(data.train_dataloader()).keys for _ in range(1)]

    torch.manual_seed(1)
    first = order(0)
    torch.manual_seed(2)
    assert order(0) == first != order(1)


def test_processes_that_see_different_data_are_the_strategys(root):
    seen, held_out = [], []
    for rank in range(2):
        data = module(root)
        strategy = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": rank})
        data.trainer = SimpleNamespace(strategy=strategy, overfit_batches=0)
        loader = data.train_dataloader()
        assert (len(loader), loader.global_batch_size) == (1, 8)
        seen += next(loader).keys
        held_out += [key for clip in data.val_dataloader() for key in clip.keys]
    assert len(set(seen)) == 8
    assert len(set(held_out)) == VAL
    assert all(held_out.count(key) == LEVELS for key in held_out)


def test_validation_can_be_limited_and_widened_again(root):
    data = module(root, val_samples=2)
    assert sum(clip.batch_size for clip in data.val_dataloader()) == 2 * LEVELS
    everything = data.validating(samples=None).val_dataloader()
    assert sum(clip.batch_size for clip in everything) == VAL * LEVELS


def test_metadata_is_known_before_training(root):
    assert module(root).spec.latent_shape == SHAPE


def test_shared_read_only_data_is_left_alone(root, tmp_path):
    before = snapshot(root)
    folders = [root, root / "train", root / "val"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        for _ in range(2):
            data = module(root, reading=Reading(cache_dir=str(tmp_path / "cache")))
            trainer(max_steps=2, limit_val_batches=1).fit(Probe(), datamodule=data)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert snapshot(root) == before
    assert len(list((tmp_path / "cache").iterdir())) == 2, "one index of train, one of val"


def snapshot(folder):
    return {p.relative_to(folder): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def test_shards_without_splits_are_split_by_key(root, tmp_path):
    data = module(root / "train", held_out=4)
    held = {key for clip in data.val_dataloader() for key in clip.keys}
    loader = data.train_dataloader()
    trained = {key for _ in range(10) for key in next(loader).keys}
    assert (len(held), len(trained)) == (4, TRAIN - 4)
    assert held.isdisjoint(trained)


@pytest.mark.parametrize("present", [None, "empty", "train"])
def test_a_missing_folder_is_named(tmp_path, present):
    folder = tmp_path / "nowhere"
    if present:
        folder.mkdir()
    if present == "train":
        write(folder / "train", 1)
    with pytest.raises(BadValue, match=r"nowhere: expected a folder with train/ and val/, each with shards") as error:
        source(folder).validate()
    assert (error.value.name, error.value.value) == ("root", folder)
    assert ("no such folder" in str(error.value)) == (present is None)
    with pytest.raises(BadValue):
        module(folder)


class TestAnchors:
    """Proposals are joined to every clip by key, in training and in validation, and only where they are needed."""

    def module(self, root, anchors, **kwargs):
        corruption = Recording()
        corruption.scheduled_sampling = Phase1(Probability(end=1.0, evaluation=1.0))
        return module(root, corruption, anchors=anchors, **kwargs)

    def test_every_stage_sees_the_proposals_of_its_own_clips(self, root, tmp_path):
        source = ImperfectSource(frames=[0, 2, 3], sigma=0.5)
        data = self.module(root, Anchors(str(tmp_path / "anchors"), source=source))
        trainer(max_steps=5).fit(Probe(), datamodule=data)
        assert {stream for stream, _ in data.corruption.calls} == {"train", "val"}
        for _, clip in data.corruption.calls:
            assert clip.proposed.sum(0).tolist() == [clip.batch_size * (t in (0, 2, 3)) for t in range(SHAPE[1])]
            for row, key in enumerate(clip.keys):
                (anchor,) = source.propose([Sample(key, clip.latents[row].bfloat16())])
                expected = anchor.latents.bfloat16().float()
                assert torch.equal(clip.proposals[row][:, [0, 2, 3]], expected)

    def test_they_are_not_looked_at_where_nothing_needs_them(self, root, tmp_path):
        data = module(root, anchors=Anchors(str(tmp_path / "nowhere")))
        assert next(data.train_dataloader()).proposals is None

    def test_they_are_read_for_a_schedule_that_looks_at_them_and_where_they_are_asked_for(self, root, tmp_path):
        def read(schedule, always):
            corruption, source = Recording(), ImperfectSource()
            corruption.schedule = schedule
            data = module(root, corruption, anchors=Anchors(str(tmp_path / "anchors"), source=source, always=always))
            return next(data.train_dataloader()).proposals is not None

        selector = Selector(channels=SHAPE[0], grid=1)
        fewest = {"k_min": 2, "num_levels": 1}
        assert read(Learned(selector=selector, **fewest), always=False)
        assert not read(Learned(selector=selector, preview=ClipPreview(), **fewest), always=False)
        assert read(Uniform(**fewest), always=True)

    def test_a_bad_sample_that_is_skipped_takes_its_proposals_along(self, tmp_path):
        write(tmp_path / "set" / "train", 4)
        write(tmp_path / "set" / "val", 2, prefix="held")
        self.module(tmp_path / "set", Anchors(str(tmp_path / "anchors"), source=ImperfectSource()))
        bad = saved(torch.full(SHAPE, float("nan")).bfloat16())
        replace_member(tmp_path / "set" / "train" / "shard-00000.tar", "clip-0001.latent.pt", bad)
        data = self.module(tmp_path / "set", Anchors(str(tmp_path / "anchors")), reading=Reading(on_bad_sample="skip"))
        loader = data.train_dataloader()
        clip = loader.to_device(next(loader), torch.device("cpu"))
        assert clip.batch_size == 3
        for row, key in enumerate(clip.keys):
            (anchor,) = ImperfectSource().propose([Sample(key, clip.latents[row])])
            expected = anchor.latents.bfloat16()
            assert torch.equal(clip.proposals[row], expected)

    def test_a_method_that_needs_them_is_refused_without_any(self, root, tmp_path):
        with pytest.raises(BadValue, match=r"data\.anchors=None: expected a node with root="):
            self.module(root, None)
        with pytest.raises(BadValue, match=r"data\.anchors\.root=.*nowhere: expected a folder with anchor shards"):
            self.module(root, Anchors(str(tmp_path / "nowhere")))


def test_wrong_shapes_are_refused_before_training(tmp_path):
    write(tmp_path / "set" / "train", 2)
    write(tmp_path / "set" / "val", 2, prefix="held")
    for split in ("train", "val"):
        (tmp_path / "set" / split / "dataset.json").unlink()
    declared = DatasetMetadata(latent_shape=(4, 6, 2, 4), text_shape=METADATA.text_shape)
    with pytest.raises(BadValue, match=r"latent_shape=\[4, 6, 2, 4\]: expected what .*train holds, \[4, 5, 2, 4\]"):
        module(tmp_path / "set", metadata=declared)
    assert module(tmp_path / "set", metadata=METADATA).clips.train.metadata is METADATA
    with pytest.raises(BadValue, match=r"metadata=None"):
        module(tmp_path / "set")


def test_splits_of_different_shapes_are_refused(tmp_path):
    write(tmp_path / "set" / "train", 2)
    write(tmp_path / "set" / "val", 2, metadata=DatasetMetadata(latent_shape=SHAPE))
    with pytest.raises(BadValue, match="train and val of one shape"):
        module(tmp_path / "set")


def test_a_truncated_shard_is_refused_or_skipped_by_name(tmp_path, caplog):
    write(tmp_path / "set" / "train", 8)
    write(tmp_path / "set" / "val", 2, prefix="held")
    path = tmp_path / "set" / "train" / "shard-00001.tar"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(BadValue, match=r"root=.*on_bad_sample=skip: shard-00001.tar: truncated"):
        module(tmp_path / "set")
    data = module(tmp_path / "set", reading=Reading(on_bad_sample="skip"))
    assert "shard-00001.tar: truncated" in caplog.text
    loader = data.train_dataloader()
    assert 4 <= loader.num_samples < 8
    assert {key for _ in range(4) for key in next(loader).keys} >= {f"clip-{i:04d}" for i in range(4)}


def test_a_bad_sample_met_in_training_stops_it_or_is_counted(tmp_path):
    write(tmp_path / "set" / "train", 8)
    write(tmp_path / "set" / "val", 2, prefix="held")
    bad = saved(torch.full(SHAPE, float("nan")).bfloat16())
    replace_member(tmp_path / "set" / "train" / "shard-00001.tar", "clip-0006.latent.pt", bad)
    with pytest.raises(BadSample, match=r"shard-00001.tar: sample 'clip-0006': latent: NaN"):
        fit(tmp_path / "set", 2, limit_val_batches=0)
    data, probe = module(tmp_path / "set", reading=Reading(on_bad_sample="skip")), Probe()
    trainer(max_steps=4, limit_val_batches=0).fit(probe, datamodule=data)
    assert data.skipped == 2
    assert sorted(len(batch) for batch in probe.seen) == [3, 3, 4, 4]


class SlowWriter:
    """Writes a set, and counts how often; another set that stands in its place is refused."""

    def __init__(self):
        self.written = 0

    def write(self, root):
        if (root / "val" / "dataset.json").exists():
            return
        write(root / "train", 6)
        self.written += 1
        threading.Event().wait(0.2)
        write(root / "val", 2, prefix="held")


def test_a_data_set_is_written_once_by_many(tmp_path):
    writer, failures = SlowWriter(), []

    def prepare():
        try:
            assert module(tmp_path / "new" / "set", writer=writer).spec.latent_shape == SHAPE
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert writer.written == 1


def test_a_set_that_stands_needs_no_lock(root, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: pytest.fail("a lock was taken on data that is there"))
    module(root, writer=SlowWriter())
    assert not (root.parent / ".set.lock").exists()


@pytest.mark.parametrize("name", ["batch_size", "val_batch_size", "held_out"])
def test_bad_sizes_are_refused(root, name):
    with pytest.raises(BadValue, match=f"{name}=0: expected at least 1"):
        source(root, **{name: 0})


def test_files_are_closed_at_the_end_and_open_again(root):
    data = module(root)
    storage = data.clips.train.storage
    loader = data.train_dataloader()
    next(loader)
    for _, _, pending in loader._ahead:  # a file is not closed under a thread that reads it
        assert [prompt.result() for prompt in pending.prompts]
    assert len(storage._files) > 0
    data.teardown("fit")
    assert len(storage._files) == 0
    next(data.train_dataloader())
