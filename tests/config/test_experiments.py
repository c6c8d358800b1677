"""Every experiment survives two batches of training and validation on a few small clips."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from interp_refiner.assemble import assemble
from interp_refiner.config import check_config
from interp_refiner.storyboard import as_pipeline
from interp_refiner.train import train
from interp_refiner.training.settings import TrainSettings
from tests.config.small import QUICK, SMALL, small_config
from tests.helpers import CONF, group_members

SIZES = {"maze": [*QUICK, "data.writer.size=11", "data.writer.min_distance=5", "backbone.size.dim=32"]}
NEEDED = {  # of latents 4 x 6
    "selector": ["training.schedule.selector.grid=2"],
    "learned_schedule": ["schedule.checkpoint=null"],
}
STUDENTS = ["consistency", "distribution_matching", "rcm", "trajectory_pairs"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A bridge of the sizes of these runs, as students are told of it."""
    folder = tmp_path_factory.mktemp("teacher")
    run = assemble(small_config(folder, "+experiment=gt_keyframes"))
    return f"training.teacher={as_pipeline(run).save_pretrained(folder / 'exported')}"


GROUPS = {name: [pytest.mark.xdist_group("students")] for name in STUDENTS}  # one worker makes the teacher


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=GROUPS.get(name, [])) for name in group_members("experiment")]
)
def test_experiment_survives_a_fast_dev_run(experiment, tmp_path, request):
    overrides = [
        *([request.getfixturevalue("teacher")] if experiment in STUDENTS else []),
        f"+experiment={experiment}",
        *SIZES.get(experiment, SMALL),
        *NEEDED.get(experiment, []),
        f"paths.root={tmp_path}",
        f"paths.output_dir={tmp_path / 'run'}",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=overrides, return_hydra_config=True)
        with open_dict(cfg):
            choices = dict(cfg.hydra.runtime.choices)
            del cfg["hydra"]
        check_config(cfg, TrainSettings, choices)
        assert train(cfg) is None
    assert (tmp_path / "run" / "config.yaml").is_file()
