"""When two runs count as the same run."""

import pytest

from interp_refiner.config import conf_dir
from interp_refiner.train import train
from interp_refiner.training.record.portable import changed, identity, portable, portable_command
from interp_refiner.training.record.recording import normalised

PROGRAM = train.program


def of(*overrides):
    return identity(normalised(PROGRAM.compose(*overrides)))


@pytest.fixture(scope="module")
def default():
    return of()


@pytest.mark.parametrize(
    "overrides",
    [
        ["paths.root=/elsewhere", "paths.output_dir=/elsewhere/run", "paths.cache=/elsewhere/cache"],
        ["logger=csv"],
        ["logger=none", "log_book=null", "duplicates=run"],
        ["hydra.run.dir=somewhere"],
        ["trainer=cpu", "strategy=ddp"],
        ["trainer.devices=2", "data.batch_size=4"],
        ["trainer.devices=[0,1]", "trainer.num_nodes=2", "data.batch_size=2"],
        ["ckpt_path=last"],
        ["corruption.sigma=0.3"],
    ],
    ids=" ".join,
)
def test_what_does_not_change_the_result_does_not_change_the_identity(overrides, default):
    assert of(*overrides) == default


@pytest.mark.parametrize(
    "overrides",
    [
        ["corruption.sigma=0.31"],
        ["seed=1"],
        ["trainer.max_steps=801"],
        ["trainer.devices=2"],
        ["data.batch_size=9"],
        ["data.root=/elsewhere"],
        ["corruption=gauss"],
        ["ckpt_path=somewhere.ckpt"],
        ["evaluation={clips:8}"],
        ["callback.ema=null"],
    ],
    ids=" ".join,
)
def test_what_changes_the_result_changes_the_identity(overrides, default):
    assert of(*overrides) != default


def test_without_noise_sigma_says_nothing():
    assert len({of("corruption=none", f"corruption.sigma={sigma}") for sigma in (0, 0.1, 0.5)}) == 1
    assert len({of("corruption=gauss", f"corruption.sigma={sigma}") for sigma in (0.1, 0.3, 0.5)}) == 3


def test_places_are_told_by_name():
    found = portable(PROGRAM.compose("paths.root=/secret", "paths.output_dir=/secret/run"))
    assert found["data"]["root"] == "<cache>/moving_shapes"
    assert found["checkpoint"]["folder"] == "<output_dir>/checkpoints"
    assert "/secret" not in str(found)
    assert "hydra" not in found


def test_what_differs_from_the_defaults():
    defaults = PROGRAM.compose()
    cfg = PROGRAM.compose("corruption=gauss", "seed=3", "callback.ema=null", "+trainer.barebones=false")
    assert changed(cfg, defaults) == {
        "seed": 3,
        "corruption.noise._target_": "interp_refiner.forward.corruption.Gauss",
        "callback.ema": None,
        "trainer.barebones": False,
    }
    assert changed(defaults, defaults) == {}
    moved = PROGRAM.compose("paths.root=/elsewhere", "paths.output_dir=/elsewhere/run")
    assert changed(moved, defaults) == {}
    assert conf_dir() == PROGRAM.conf_dir


def test_commands_keep_what_was_run_and_not_where():
    command = "python -m interp_refiner.train -m sigma=0.1,0.3 hydra.sweep.dir=/home/a paths.root=/b +x='a b'"
    assert portable_command(command) == "python -m interp_refiner.train -m sigma=0.1,0.3 '+x=a b'"
    assert portable_command("python /home/a/b.py source=/home/c") == "python .../b.py source=.../c"
