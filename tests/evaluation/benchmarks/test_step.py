"""Benchmarks of a run: the real training path timed by parts, samplers, and noise as data."""

import io
import time
from functools import partial
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import OmegaConf
from tqdm import tqdm

from interp_refiner.assemble import assemble
from interp_refiner.config import build
from interp_refiner.core import BadValue, Corrupted
from interp_refiner.data import DatasetMetadata
from interp_refiner.data.random_clips import RandomClips
from interp_refiner.evaluation import InferenceBenchmark, StepBenchmark
from interp_refiner.evaluation.programs.suite_part import BenchmarkPart
from interp_refiner.model.backbone import Wan
from interp_refiner.model.sampler import Bridge, OneJump
from interp_refiner.training.callback import EMA, Throughput
from interp_refiner.training.callback.progress import SHOWN, Progress
from tests.factories import random_clip, spec_of
from tests.helpers import CONF
from tests.model.backbone.made import made

PLAIN = [
    "trainer=cpu",
    "trainer.limit_val_batches=0",
    "trainer.enable_progress_bar=false",
    "trainer.enable_checkpointing=false",
    "trainer.enable_model_summary=false",
    "data=wan_random",
    "data.metadata.latent_shape=[16,9,8,8]",
    "data.metadata.text_shape=[3,8]",
    "data.writer.num_train=4",
    "data.writer.num_val=2",
    "backbone=wan_tiny",
    "backbone.size.num_layers=1",
    "corruption/bridge_time=uniform",
]


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    places = [f"paths.root={folder}", f"paths.output_dir={folder}", f"paths.cache={folder}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*PLAIN, *places])


def trainer_of(cfg, callbacks, **settings):
    return partial(build, cfg.trainer, **{"callbacks": callbacks, "logger": False, **settings})


class Records(DummyLogger):
    """A logger that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.figures = {}

    def log_metrics(self, metrics, step=None):
        self.figures |= metrics


def test_a_step_is_the_sum_of_its_parts_and_the_fit_is_a_real_one(cfg):
    run, ema, throughput = assemble(cfg), EMA(0.5), Throughput(every_n_steps=1, warmup_batches=1, peak_tflops=1e-3)
    before = run.refiner.backbone.wan.proj_out.weight.detach().clone()
    records = Records()
    make_trainer = trainer_of(cfg, [ema, throughput], logger=records, log_every_n_steps=1)
    found = StepBenchmark(steps=3, warmup=1, peak_tflops=1e-3).measure(run.refiner, run.data, make_trainer)
    parts = found["parts_ms"]
    assert found["steps"] == 3
    assert list(parts) == ["data", "corruption", "forward", "backward", "optimizer", "average", "other"]
    assert all(parts[name] > 0 for name in parts if name != "other")
    assert found["slowest_step_ms"] >= found["step_ms"] > max(parts.values())
    assert found["corruption_share"] == pytest.approx(parts["corruption"] / found["step_ms"])
    assert ema.steps == 5  # warm-up, three, and the one that closes the last
    assert not torch.equal(before, run.refiner.backbone.wan.proj_out.weight)
    assert found["tokens"] == 2 * 9 * 4 * 4
    flops = run.refiner.backbone.flops(2, (16, 9, 8, 8), 3).training.total
    assert found["tflop"] == pytest.approx(flops / 1e12)
    assert found["mfu"] == pytest.approx(flops / (found["step_ms"] / 1e3) / 1e9)
    figures = throughput.figures()
    assert figures["tokens_per_s"] == pytest.approx(9 * 16 * figures["samples_per_s"])
    assert figures["tflops_per_s"] == pytest.approx(flops / 2 / 1e12 * figures["samples_per_s"])
    assert figures["mfu"] == pytest.approx(figures["tflops_per_s"] / 1e-3)
    assert 0 < figures["data_wait"] < 1
    assert figures.keys() <= records.figures.keys()  # every logger has them all
    assert figures.keys() <= SHOWN.keys()  # and so has the bar
    assert len(figures) == 7
    assert found["kernels"] == {"self_attention": "sdpa", "cross_attention": "sdpa"}


def test_the_bar_shows_what_is_known_and_nothing_else():
    written, progress = io.StringIO(), Progress()
    progress.training = tqdm(total=3, file=written, mininterval=0)
    metrics = {"mfu": torch.tensor(0.4321), "tflops_per_s": torch.tensor(512.0), "unknown": torch.tensor(7.0)}
    trainer = Mock(spec=L.Trainer, callback_metrics=metrics, global_step=1)
    progress.on_train_batch_end(trainer, Mock(spec=L.LightningModule), None, None, 0)
    progress.training.close()
    assert "MFU=0.432, TFLOP/s=512" in written.getvalue()
    assert "unknown" not in written.getvalue()


def test_a_step_of_several_batches_is_refused(cfg):
    run, make_trainer = assemble(cfg), trainer_of(cfg, [], accumulate_grad_batches=2)
    with pytest.raises(BadValue, match=r"trainer.accumulate_grad_batches=2: expected 1"):
        StepBenchmark(steps=1, warmup=1).measure(run.refiner, run.data, make_trainer)


def test_time_spent_writing_a_checkpoint_is_not_waiting_for_data():
    throughput, trainer = Throughput(warmup_batches=0), Mock(spec=L.Trainer, strategy=object())
    module, batch = Mock(spec=L.LightningModule, device=torch.device("cpu")), Mock(spec=Corrupted, clip=random_clip(2))
    for saves in (True, False):
        throughput.on_train_batch_start(trainer, module, batch, 0)
        throughput.on_train_batch_end(trainer, module, None, batch, 0)
        if saves:
            throughput.on_save_checkpoint(trainer, module, {})
            time.sleep(0.2)
    assert throughput.seconds < 0.1
    assert throughput.samples == 4


def test_samplers_are_told_apart_by_their_evaluations_of_the_backbone(cfg):
    run = assemble(cfg)
    samplers = {"one_jump": OneJump(), "bridge": Bridge(3), "long": Bridge(6)}
    found = InferenceBenchmark(samplers, batch_size=2, repeats=1).measure(run.refiner, run.data, trainer_of(cfg, []))
    rows = {row["sampler"]: row for row in found["rows"]}
    assert [row["backbone_evaluations"] for row in found["rows"]] == [1, 3, 6]
    assert rows["long"]["share_of_last"] == 1
    assert all(row["seconds_per_clip"] > 0 and row["peak_memory_gb"] > 0 for row in found["rows"])


def test_weights_are_drawn_where_they_are_asked_for():
    with torch.device("meta"):
        size = {"num_layers": 1, "num_attention_heads": 1, "attention_head_dim": 32, "ffn_dim": 32, "freq_dim": 32}
        model = made(Wan, spec_of(), **size)
    assert {p.device.type for p in [*model.parameters(), *model.buffers()]} == {"meta"}


def test_random_clips_are_written_once_and_refuse_other_settings(tmp_path):
    small = {"num_train": 3, "num_val": 1, "text_shape": (2, 4)}
    RandomClips(latent_shape=(16, 5, 4, 4), **small).write(tmp_path)
    RandomClips(latent_shape=(16, 5, 4, 4), **small).write(tmp_path)
    assert DatasetMetadata.load(tmp_path / "train").num_samples == 3
    with pytest.raises(BadValue, match=r"latent_shape=\[16, 5, 4, 4\] instead of \[16, 5, 4, 6\]"):
        RandomClips(latent_shape=(16, 5, 4, 6), **small).write(tmp_path)
    with pytest.raises(BadValue, match=r"num_train=3 instead of 4, seed=0 instead of 1"):
        RandomClips(latent_shape=(16, 5, 4, 4), seed=1, **small | {"num_train": 4}).write(tmp_path)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"warmup": 0}], ids=str)
def test_a_benchmark_of_nothing_is_refused(bad):
    with pytest.raises(BadValue, match=next(iter(bad))):
        StepBenchmark(**bad)


@pytest.mark.parametrize("bad", [{"every_n_steps": 0}, {"peak_tflops": 0.0}], ids=str)
def test_throughput_without_steps_or_peak_is_refused(bad):
    with pytest.raises(BadValue, match=next(iter(bad))):
        Throughput(**bad)


def suite_parts():
    nodes = OmegaConf.load(CONF / "benchmark" / "gpu_suite.yaml").parts
    return {name: node for name, node in nodes.items() if node._target_.endswith(BenchmarkPart.__name__)}


@pytest.mark.parametrize("name", list(suite_parts()))
def test_every_part_of_the_suite_composes(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("benchmark", list(suite_parts()[name].arguments))
    if "attention=dense" not in suite_parts()[name].arguments and "step" in cfg.benchmark._target_.lower():
        assert cfg.attention._target_.endswith("SparseLinear")
        assert cfg.data.metadata.latent_shape == [16, 21, 60, 104]
