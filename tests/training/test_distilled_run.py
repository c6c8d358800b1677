"""A distillation run from its command line: it resumes exactly, and its result is a refiner."""

import pytest
import torch

from interp_refiner import load_run
from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue
from interp_refiner.model.sampler import Consistency
from interp_refiner.storyboard import as_pipeline
from interp_refiner.storyboard.saved.components import INDEX
from interp_refiner.train import train
from interp_refiner.training import Refiner
from tests.config.small import small_config

SIZES = ["interpolator=linear", "backbone.size.dim=16", "backbone.size.num_layers=1", "backbone.size.num_heads=1"]
SHORT = [
    "debug=limit",
    "trainer.max_epochs=-1",
    "trainer.limit_train_batches=null",
    "logger=none",
    "log_book=null",
    "callback.progress=null",
    "callback.throughput=null",
    "callback.validation_table=null",
    "callback.validation_video=null",
    "data.batch_size=2",
    "data.val_samples=2",
    "objective.matching.student_every=2",
    "optimizer.decay_share=0.0",
    "trainer.val_check_interval=3",
    "trainer.enable_progress_bar=false",
    "checkpoint.every_n_steps=1",
    "checkpoint.keep_last=3",
]


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """The overrides of a student, with a teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    teacher = as_pipeline(assemble(small_config(folder, "+experiment=gt_keyframes", *SIZES)))
    told = f"training.teacher={teacher.save_pretrained(folder / 'exported')}"
    return ["+experiment=rcm", *SIZES, *SHORT, told]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, common):
    """The folders of a run of three steps, and of one that was stopped after the first and went on."""
    folder = tmp_path_factory.mktemp("distilled")

    def run(name, *overrides):
        train(small_config(folder / name, *common, *overrides))
        return folder / name / "run"

    whole = run("whole", "trainer.max_steps=3")
    first = run("first", "trainer.max_steps=1")
    rest = run("rest", "trainer.max_steps=3", f"ckpt_path={first}")
    return whole, rest


def state_of(folder):
    return torch.load(folder / "checkpoints" / "step_000003.ckpt", weights_only=False)


def test_a_resumed_run_repeats_student_fake_network_and_optimizer_bit_for_bit(runs):
    whole, rest = map(state_of, runs)
    assert any(name.startswith("fake.") for name in whole["state_dict"])
    assert not any(name.startswith("teacher") for name in whole["state_dict"])
    for kept in ("state_dict", "ema_state_dict"):
        assert all(torch.equal(value, rest[kept][name]) for name, value in whole[kept].items())
    moments = [state["optimizer_states"][0]["state"] for state in (whole, rest)]
    for number, values in moments[0].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(moments[1][number][n])) for n, v in values.items())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("backbone.size.num_layers=2", r"^training\.teacher=.*; for this teacher set backbone\.size\.num_layers=1$"),
        ("backbone.size.num_heads=2", r"^training\.teacher=.*; for this teacher set backbone\.size\.num_heads=1$"),
        ("backbone/timestep=global", r"^backbone\.conditioning\.timestep=Global: expected PerFrame, the teacher's$"),
        ("objective.variance=3.0", r"^objective\.variance=3\.0: expected 0\.25, the teacher's$"),
        ("objective.gate.bias=1.0", r"^objective\.gate\.bias=1\.0: expected 2\.0, the teacher's$"),
        ("corruption.sigma=0.5", r"^corruption\.sigma=0\.5: expected 0\.8, the teacher's$"),
        ("interpolator=slerp", r"^interpolator=Slerp: expected Linear, the teacher's$"),
    ],
)
def test_a_setting_that_differs_from_the_teachers_is_named_by_its_key(common, tmp_path, override, said):
    with pytest.raises(BadValue, match=said):
        assemble(small_config(tmp_path, *common, override))


def test_a_teacher_that_is_not_there_is_refused_before_the_clips_are_made(program, tmp_path):
    done = program("train", "+experiment=consistency", "training.teacher=/nowhere", f"data.root={tmp_path / 'clips'}")
    assert done.returncode == 2
    assert "training.teacher=/nowhere: expected a run folder" in done.stderr
    assert not (tmp_path / "clips").exists()


def test_it_is_loaded_exported_and_sampled_as_a_refiner(runs, tmp_path):
    run = load_run(runs[0])
    assert type(run.refiner) is Refiner
    assert isinstance(run.refiner.sampler, Consistency)
    folder = as_pipeline(run).save_pretrained(tmp_path / "exported")
    assert (folder / INDEX).is_file()
    assert "| distilled from |" in (folder / "README.md").read_text()
    again = load_run(folder).refiner
    for name, weight in run.refiner.backbone.state_dict().items():
        assert torch.equal(weight, again.backbone.state_dict()[name])
    assert torch.equal(run.refiner.objective.gain, again.objective.gain)
