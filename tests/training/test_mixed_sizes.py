"""The whole line over clips of several sizes: training, validation, evaluation, resume."""

import json
from collections import Counter
from pathlib import Path

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir

from interp_refiner.assemble import Run, assemble
from interp_refiner.config import save_config
from interp_refiner.core import BadValue
from interp_refiner.data import DatasetMetadata, Sample, write_shards
from interp_refiner.data.codec import PatchDCT
from interp_refiner.evaluate import evaluate
from interp_refiner.training.callback import Throughput
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.helpers import CONF

SHAPES = {(16, 7, 4, 6): 6, (16, 7, 6, 4): 4, (16, 5, 4, 6): 4}
METHOD = ["+experiment=gt_keyframes", "schedule.counts=[4,3]", "data=wan_synth", "codec=patch_dct", "data.batch_size=2"]
SMALL = [
    "backbone=wan_tiny",
    "backbone.size.num_layers=1",
    "backbone.size.ffn_dim=32",
    "data.val_batch_size=3",
    "data.val_samples=null",
]


def config(program: str, folder: Path, *overrides: str):
    places = [f"paths.{name}={folder / name}" for name in ("root", "cache", "log_dir")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(program, [*places, f"paths.output_dir={folder / program}", *overrides])


def write(root: Path, shapes: dict[tuple[int, ...], int]) -> None:
    codec = PatchDCT().describe()
    for split in ("train", "val"):
        names = []
        for shape, count in shapes.items():
            names.append("x".join(map(str, shape[1:])))
            draws = torch.Generator().manual_seed(sum(shape))
            walk = torch.randn(count, *shape, generator=draws).cumsum(2) / 3
            samples = [
                Sample(f"{split}-{names[-1]}-{i}", clip, torch.randn(3, 8, generator=draws))
                for i, clip in enumerate(walk)
            ]
            statistics = {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
            metadata = DatasetMetadata(shape, text_shape=(3, 8), codec=codec, fps=8.0, **statistics)
            write_shards(root / split / names[-1], samples, metadata)
        (root / split / "buckets.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mixed")
    write(place / "set", SHAPES)
    return place


class Seen(L.Callback):
    """The samples and shapes of every training batch."""

    def __init__(self):
        self.keys, self.shapes = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.keys += list(zip(batch.clip.epochs, batch.clip.keys, strict=True))
        self.shapes.append(tuple(batch.clip.latents.shape[1:]))


def fit(cfg, steps: int, *callbacks: L.Callback, ckpt_path: Path | None = None) -> tuple[Run, L.Trainer]:
    run = assemble(cfg)
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False)
    often = {"max_steps": steps, "val_check_interval": steps, "check_val_every_n_epoch": None}
    trainer = L.Trainer(accelerator="cpu", callbacks=list(callbacks), num_sanity_val_steps=0, **often, **quiet)
    trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt_path)
    return run, trainer


@pytest.fixture(scope="module")
def trained(folder: Path):
    """A run of 14 steps, two epochs: its config, what it saw and what it counted."""
    cfg = config("train", folder, *METHOD, *SMALL, f"data.root={folder / 'set'}")
    seen, throughput = Seen(), Throughput(warmup_batches=0)
    run, trainer = fit(cfg, 14, seen, throughput)
    (folder / "train" / "checkpoints").mkdir(parents=True)
    trainer.save_checkpoint(folder / "train" / LAST_CHECKPOINT)
    save_config(cfg, folder / "train")
    return cfg, run, trainer, seen, throughput


def test_every_sample_trains_once_an_epoch_in_batches_of_one_size(trained) -> None:
    _, _, _, seen, _ = trained
    assert set(seen.shapes) == set(SHAPES)
    assert set(Counter(seen.keys).values()) == {1}
    assert len(seen.keys) == 28
    assert {epoch for epoch, _ in seen.keys} == {0, 1}


def test_validation_covers_every_size(trained) -> None:
    _, run, trainer, _, _ = trained
    assert run.spec.latent_shape == (16, 7, 4, 6)
    assert torch.isfinite(trainer.callback_metrics["val/mean/ratio"])
    assert sum(len(clip.keys) for clip in run.data.val_dataloader()) == 14 * 2


def test_throughput_counts_the_tokens_that_were_there(trained) -> None:
    _, _, _, seen, throughput = trained
    tokens = {shape: shape[1] * (shape[2] // 2) * (shape[3] // 2) for shape in SHAPES}
    assert throughput.tokens == sum(2 * tokens[shape] for shape in seen.shapes)
    assert throughput.frames == sum(2 * shape[1] for shape in seen.shapes)


def test_a_resumed_run_sees_what_was_left(trained, folder: Path) -> None:
    cfg, _, _, whole, _ = trained
    first, rest = Seen(), Seen()
    _, trainer = fit(cfg, 5, first)
    trainer.save_checkpoint(folder / "part.ckpt")
    fit(cfg, 14, rest, ckpt_path=folder / "part.ckpt")
    assert first.keys + rest.keys == whole.keys


def test_evaluation_covers_every_size(trained, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "evaluate").mkdir()
    evaluate(config("evaluate", folder, f"checkpoint={folder / 'train'}", "batch_size=6", "device=cpu", "clips=null"))
    assert "14 of 14 held-out clips at 2 levels" in capsys.readouterr().out
    assert (folder / "evaluate" / "evaluation.json").is_file()


def test_lengths_with_other_numbers_of_levels_are_refused(folder: Path) -> None:
    cfg = config(
        "train",
        folder,
        *METHOD,
        *SMALL,
        f"data.root={folder / 'set'}",
        "schedule.counts=null",
        "schedule.k_min=3",
        "schedule.num_levels=4",
    )
    with pytest.raises(
        BadValue,
        match=r"num_levels=.* for 5 frames, .* for 7 frames: expected a schedule with the same number of levels",
    ):
        assemble(cfg)


def test_sizes_that_the_backbone_cannot_take_are_refused(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "set", {(16, 7, 4, 6): 2, (16, 7, 5, 4): 2})
    cfg = config("train", folder, *METHOD, *SMALL, f"data.root={tmp_path / 'set'}")
    with pytest.raises(BadValue, match=r"latent_shape=\[16, 7, 5, 4\]: expected frames, height and width divisible by"):
        assemble(cfg)


def test_proposals_are_refused_by_name(folder: Path) -> None:
    cfg = config("train", folder, *METHOD, *SMALL, f"data.root={folder / 'set'}", "data.anchors.always=true")
    with pytest.raises(BadValue, match=r"data\.anchors=.*: expected null with clips of several sizes"):
        assemble(cfg)
