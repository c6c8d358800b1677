"""Students under strategies that shard: teacher, fake network and objective are sharded and learn as in one process."""

import lightning as L
import pytest
import torch
from torch.distributed.tensor import DTensor

from interp_refiner.assemble import assemble, load_run
from interp_refiner.storyboard import as_pipeline
from interp_refiner.training import Refiner
from interp_refiner.training.backbone_module import shards
from interp_refiner.training.checkpoint import resume_path, stored_names
from tests.config.small import small_config
from tests.training.checkpoint.runs import TINY
from tests.training.strategy.groups import PARITY, UNSAVED, Fit, dealt, difference, fits_together

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("processes")]  # one worker has their server
STEPS, RESUMED, PATIENCE = 4, 2, 1000.0
MIDDLE = f"run/checkpoints/step_{RESUMED:06d}.ckpt"
BRIDGE = ["corruption/bridge_time=uniform", "corruption.keyframe_fraction=0.3"]
EVERY_SECOND = "objective.matching.student_every=2"
STUDENTS = {
    "consistency": ["objective=consistency"],
    "matching": ["objective=distribution_matching", EVERY_SECOND],
    "rcm": ["objective=rcm", EVERY_SECOND],
    "lora": ["objective=rcm", EVERY_SECOND, "backbone.lora.rank=4", "optimizer.lr=0.01"],
}
BRIDGES = {  # no students: their objectives have weights, too
    "bridge": ["objective=preconditioned"],
    "score": ["objective=energy_score", "corruption/bridge_time=fully_corrupted"],
}
SHARDED = {"fsdp2": ["rcm"]}
IN_SOAK = {
    "fsdp2": ["consistency", "lora", "bridge", "score"],
    "hsdp": ["consistency", "matching"],
    "sequence": ["lora", "rcm"],
    "ddp": ["lora"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def told(folder):
    """The overrides of every student: its teacher is a network of random weights, whose output is not zero."""
    torch.manual_seed(5)
    run = assemble(small_config(folder / "of_teacher", *TINY, *PARITY, *BRIDGE, "objective=preconditioned"))
    for weight in run.module.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    teacher = as_pipeline(run).save_pretrained(folder / "teacher")
    return [*BRIDGE, "training=distill", "sampler=consistency", f"training.teacher={teacher}"]


class Sharded(L.Callback):
    """Holds everything to be in shards between training steps: nothing was left whole."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        if not shards(trainer):
            return
        networks = [*pl_module.networks, *pl_module.beside]
        kinds = {type(weight) for network in networks for weight in network.parameters()}
        assert issubclass(kinds.pop(), DTensor)
        assert not kinds


def fit(name, strategy, told, world=2, resume=None, called=None, extra=()):
    batch, micro = {"auto": (4, 1), "sequence": (4, 1), "hsdp": (1, 2)}.get(strategy, (2, 1))
    replicas = ["trainer.strategy.replicas=2"] if strategy == "hsdp" else []
    method = [*told, *STUDENTS[name]] if name in STUDENTS else [*BRIDGE, *BRIDGES[name]]
    overrides = [*dealt(strategy, batch, micro, world, STEPS, RESUMED), *method, *replicas, *extra]
    return Fit(called or f"{strategy} {name}", overrides, resume, [Sharded()])


def of(table):
    return [(strategy, name) for strategy, names in table.items() for name in names]


def alone(table, folder, told):
    """One process for every method of the table."""
    names = sorted({name for _, name in of(table)})
    return fits_together([fit(name, "auto", told, world=1) for name in names], folder, 1, PATIENCE)


@pytest.fixture(scope="module")
def single(folder, told):
    return alone(SHARDED, folder, told)


@pytest.fixture(scope="module")
def two(folder, told, single):
    fits = [fit(name, strategy, told) for strategy, name in of(SHARDED)]
    fits += [fit("rcm", "fsdp2", told, resume=f"fsdp2_rcm/{MIDDLE}", called="again", extra=UNSAVED)]
    return fits_together(fits, folder, 2, PATIENCE)


CASES = [(f"{strategy} {name}", name, 1) for strategy, name in of(SHARDED)]
RESUMES = [("again", "rcm", RESUMED + 1)]


@pytest.mark.parametrize(("found", "name", "first"), [*CASES, *RESUMES])
def test_two_processes_distill_as_one(single, two, found, name, first):
    check(found, two[found], single[f"auto {name}"], first)


@pytest.mark.soak
def test_every_other_student_distills_as_one(folder, told):
    single = alone(IN_SOAK, folder / "more", told)
    fits = [fit(name, strategy, told) for strategy, name in of(IN_SOAK)]
    fits += [
        fit("lora", "fsdp2", told, resume=f"fsdp2_lora/{MIDDLE}", called="lora again"),
        fit("rcm", "hsdp", told, resume=f"auto_rcm/{MIDDLE}", called="from one"),
    ]
    two = fits_together(fits, folder / "more", 2, PATIENCE)
    for strategy, name in of(IN_SOAK):
        check(f"{strategy} {name}", two[f"{strategy} {name}"], single[f"auto {name}"])
    check("lora again", two["lora again"], single["auto lora"], RESUMED + 1)
    check("from one", two["from one"], single["auto rcm"], RESUMED + 1)
    check_checkpoint(folder / "more", two, "lora")


def check(found, two, one, first=1):
    """Against one process; ``-s`` shows the largest differences as a row of a table."""
    assert list(two["losses"]) == list(range(first, STEPS + 1))
    apart = {part: difference(two[part], one[part]) for part in ("losses", "figures", "ema", "weights")}
    assert len(set(one["losses"].values())) == STEPS
    print(f"\n| {found} | " + " | ".join(f"{value:.1e}" for value in apart.values()) + " |")
    assert two["ema"].keys() == one["ema"].keys()
    assert any(weight.startswith("objective.") for weight in two["ema"])
    # Adam divides by the size of a gradient, so where that is near 0 its rounding moves a weight by up to the rate
    for part, tolerance in {"losses": 1e-5, "figures": 1e-5, "ema": 1e-4, "weights": 1e-4}.items():
        assert apart[part] < tolerance, part


def test_a_sharded_checkpoint_holds_student_and_fake_network_and_is_loaded_as_a_refiner(folder, two):
    check_checkpoint(folder, two, "rcm")


def check_checkpoint(folder, two, name):
    run = folder / f"fsdp2_{name}" / "run"
    stored = stored_names(resume_path(str(run), folder), "state_dict")
    assert {weight.partition(".")[0] for weight in stored} == {"backbone", "objective", "fake"}
    loaded = load_run(run, ema=False).refiner
    assert type(loaded) is Refiner
    assert torch.equal(loaded.objective.gain, two[f"fsdp2 {name}"]["weights"]["objective.gain"])
    assert loaded.objective.gain.abs().max() > 1e-4
