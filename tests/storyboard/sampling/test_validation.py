"""A user's storyboards in validation: when and where they are shown, always with the same noise."""

import lightning as L
import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from interp_refiner.assemble import assemble
from interp_refiner.config import build
from interp_refiner.core import BadValue
from interp_refiner.evaluation import ValidationVideo
from interp_refiner.storyboard import ValidationStoryboards
from tests.storyboard.conftest import SMALL, program_config


class FakeWandb(WandbLogger):
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def log_video(self, key, videos, step=None, **_):
        self.told.append((key, step, videos[0].endswith(".mp4")))

    def log_image(self, key, images, step=None, **_):
        self.told.append((key, step, isinstance(images[0], Image.Image)))

    def log_metrics(self, metrics, step=None):
        pass

    def log_graph(self, *_):
        pass

    def save(self):
        pass

    def finalize(self, status):
        pass

    experiment = name = version = save_dir = None


@pytest.fixture
def board(tmp_path):
    for number, value in enumerate((60, 180)):
        Image.new("RGB", (24, 16), (value, 90, 120)).save(tmp_path / f"{number}.png")
    file = tmp_path / "mine.yaml"
    file.write_text("frames: 9\nkeyframes:\n  - {image: 0.png, time: 0}\n  - {image: 1.png, time: 100%}\n")
    return file


@pytest.fixture
def run(tmp_path):
    return assemble(program_config("train", tmp_path, *SMALL, "+experiment=toy_video"))


def fit(run, folder, *callbacks, steps=3, loggers=False, every=1, ckpt_path=None):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_steps=steps,
        check_val_every_n_epoch=every,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=loggers,
        callbacks=list(callbacks),
        default_root_dir=folder,
        log_every_n_steps=1,
        **quiet,
    )
    trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt_path)
    return trainer


def test_storyboards_are_shown_at_the_chosen_steps_in_files_tensorboard_and_wandb(run, board, tmp_path):
    callback = ValidationStoryboards(str(tmp_path / "run"), [str(board)], steps=[2])
    wandb = FakeWandb()
    clips = ValidationVideo(str(tmp_path / "clips"), clips=1)
    fit(run, tmp_path, callback, clips, loggers=[TensorBoardLogger(tmp_path, "tb", ""), wandb])
    files = sorted(path.name for path in (tmp_path / "run/samples").iterdir())
    assert files == ["mine_step_000002.mp4", "mine_step_000002.png"]
    own = [told for told in wandb.told if told[0].startswith("storyboard/")]
    assert own == [("storyboard/mine", 2, True), ("storyboard/mine_sheet", 2, True)]
    assert [told for told in wandb.told if told[1] == 3] == [("val/clips", 3, True), ("val/clips_sheet", 3, True)]
    events = EventAccumulator(str(tmp_path / "tb"), size_guidance={"images": 0}).Reload()
    assert {"storyboard/mine", "storyboard/mine_sheet"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Images("storyboard/mine")] == [2]
    assert run.module.training  # as training left it


def test_the_same_weights_make_the_same_video_and_others_another(run, board, tmp_path):
    callback = ValidationStoryboards(str(tmp_path / "run"), [str(board)])
    trainer = fit(run, tmp_path, callback, steps=1)
    file = tmp_path / "run/samples/mine_step_000001.mp4"
    first = file.read_bytes()
    callback.seen = -1
    callback.on_validation_epoch_end(trainer, run.module)
    assert file.read_bytes() == first
    with torch.no_grad():
        for weight in run.module.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    callback.on_validation_epoch_end(trainer, run.module)  # this step was shown already
    assert file.read_bytes() == first
    callback.seen = -1
    callback.on_validation_epoch_end(trainer, run.module)
    assert file.read_bytes() != first


def test_a_picture_that_is_gone_during_training_is_still_shown(run, board, tmp_path):
    callback = ValidationStoryboards(str(tmp_path / "run"), [str(board)])

    class Removing(L.Callback):
        def on_train_start(self, trainer, pl_module):
            for file in board.parent.glob("*.png"):
                file.unlink()

    fit(run, tmp_path, callback, Removing(), steps=1)
    assert (tmp_path / "run/samples/mine_step_000001.mp4").is_file()
    assert not list(board.parent.glob("*.png"))


def test_every_validation_counts_once_and_steps_count_once():
    always, chosen = ValidationStoryboards("somewhere"), ValidationStoryboards("somewhere", steps=[3, 4, 10])
    assert [always._is_due(step) for step in (1, 1, 2)] == [True, False, True]
    assert [chosen._is_due(step) for step in (2, 5, 6, 10, 10)] == [False, True, False, True, False]


def test_a_continued_run_shows_what_is_due_and_nothing_twice(run, board, tmp_path):
    saved, shown = tmp_path / "stopped.ckpt", tmp_path / "run/samples"
    steps = [2, 3]
    first = fit(run, tmp_path, ValidationStoryboards(str(shown.parent), [str(board)], steps), steps=3, every=2)
    first.save_checkpoint(saved)  # at step 3; its validation would be at step 4
    assert sorted(file.name for file in shown.glob("*.mp4")) == ["mine_step_000002.mp4"]
    shown.rename(tmp_path / "before")
    again = ValidationStoryboards(str(shown.parent), [str(board)], steps)
    fit(run, tmp_path, again, steps=6, every=2, ckpt_path=saved)
    assert len(list(shown.glob("*.mp4"))) == 1
    assert again.seen > 3


def test_the_option_of_the_config(board, tmp_path):
    options = [f"validation.storyboards=[{board}]", "validation.steps=[200,400]", "validation.seed=3"]
    node = program_config("train", tmp_path, *options).callback.validation_storyboards
    callback = instantiate(node, _convert_="all")
    assert list(callback.boards) == ["mine"]
    assert (callback.steps, callback.seed) == ((200, 400), 3)
    assert program_config("train", tmp_path).validation.storyboards == []


def test_what_cannot_be_shown_is_refused_before_the_work(run, board, tmp_path):
    with pytest.raises(BadValue, match=r"validation\.storyboards=.*nowhere\.yaml"):
        ValidationStoryboards("somewhere", [str(tmp_path / "nowhere.yaml")])
    with pytest.raises(BadValue, match="storyboards with different names: two are called mine"):
        ValidationStoryboards("somewhere", [str(board), str(board)])
    with pytest.raises(BadValue, match=r"validation\.steps=\[0, 5\]: expected .*1 or more"):
        ValidationStoryboards("somewhere", steps=[0, 5])
    board.write_text("width: 25\n" + board.read_text())
    with pytest.raises(BadValue, match=r"validation\.storyboards\.mine.*width=25"):
        fit(run, tmp_path, ValidationStoryboards("somewhere", [str(board)]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1.png", "1.png, clip: 1.mp4", r"^validation\.storyboards\.keyframes\[1\]\.image=image and clip: "),
        ("frames: 9", "frames: 9\nseconds: 2.0", r"^validation\.storyboards\.seconds=2\.0: "),
        ("frames", "frmes", r"^validation\.storyboards\.frmes=9: "),
    ],
)
def test_a_mistake_in_a_storyboard_is_named_once(board, tmp_path, old, new, said):
    board.write_text(board.read_text().replace(old, new))
    cfg = program_config("train", tmp_path, f"validation.storyboards=[{board}]")
    with pytest.raises(BadValue, match=said):
        build(cfg.callback.validation_storyboards)


def test_a_setting_of_the_model_keeps_its_key(run, board, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise BadValue("sampler.steps", 3, "fewer steps")

    monkeypatch.setattr("interp_refiner.storyboard.sampling.validation.read_board", refuse)
    with pytest.raises(BadValue, match=r"^sampler\.steps=3: "):
        fit(run, tmp_path, ValidationStoryboards("somewhere", [str(board)]))
