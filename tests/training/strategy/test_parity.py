"""Every strategy trains as one process does on the same global batch, and resumes another strategy's run."""

import pytest
from diffusers import WanTransformer3DModel
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from interp_refiner.assemble import load_run
from interp_refiner.storyboard import as_pipeline
from interp_refiner.training.checkpoint import resume_path
from tests.training.strategy.groups import UNSAVED, Fit, dealt, difference, fits_together

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("processes")]
STEPS, RESUMED, PATIENCE = 4, 2, 1000.0  # seconds: half a minute where there is nothing else to do


def pair(strategy, *extra, batch=2, micro=1):
    return [*dealt(strategy, batch, micro, 2, STEPS, RESUMED), *extra]


def alone(batch=4, micro=1):
    return dealt("auto", batch, micro, 1, STEPS, RESUMED)


MIDDLE = f"run/checkpoints/step_{RESUMED:06d}.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def single(folder):
    fits = [Fit("one", alone()), Fit("one_accumulated", [*alone(batch=1, micro=4), *UNSAVED])]
    return fits_together(fits, folder, 1, PATIENCE)


@pytest.fixture(scope="module")
def two(folder, single):
    replicas = "trainer.strategy.replicas=2"
    fits = [
        Fit("ddp", pair("ddp")),
        Fit("fsdp2", pair("fsdp2", "backbone/recomputation=selective")),
        Fit("hsdp", pair("hsdp", replicas, batch=1, micro=2)),
        Fit("ddp_from_fsdp2", pair("ddp", *UNSAVED), f"fsdp2/{MIDDLE}"),
        Fit("fsdp2_from_one", pair("fsdp2", *UNSAVED), f"one/{MIDDLE}"),
        Fit("sequence", dealt("sequence", 4, 1, 2, STEPS, RESUMED)),
    ]
    return fits_together(fits, folder, 2, PATIENCE)


@pytest.fixture(scope="module")
def one_from_two(folder, two):
    return fits_together([Fit("one_from_hsdp", [*alone(), *UNSAVED], f"hsdp/{MIDDLE}")], folder, 1, PATIENCE)


def check(name, found, expected, first=1):
    """Against one process; ``-s`` shows the largest differences as a row of a table."""
    assert list(found["losses"]) == list(range(first, STEPS + 1))
    assert len(set(expected["losses"].values())) == STEPS
    apart = {part: difference(found[part], expected[part]) for part in ("losses", "ema", "weights", "figures")}
    print(f"\n| {name} | " + " | ".join(f"{value:.1e}" for value in apart.values()) + " |")
    # Adam divides by the size of a gradient, so where that is near 0 its rounding moves a weight by up to the rate
    for part, tolerance in {"losses": 1e-6, "figures": 1e-5, "ema": 2e-5, "weights": 2e-5}.items():
        assert apart[part] < tolerance, part


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "hsdp", "sequence"])
def test_two_processes_train_as_one(single, two, name):
    check(name, two[name], single["one"])
    assert two[name]["ema"].keys() == single["one"]["ema"].keys()


def test_micro_batches_train_as_one_batch(single):
    check("one, micro-batches", single["one_accumulated"], single["one"])


@pytest.mark.parametrize("name", ["ddp_from_fsdp2", "fsdp2_from_one"])
def test_a_run_goes_on_under_another_strategy_and_world_size(single, two, name):
    check(name, two[name], single["one"], first=RESUMED + 1)


def test_one_process_goes_on_from_a_sharded_checkpoint(single, one_from_two):
    check("one_from_hsdp", one_from_two["one_from_hsdp"], single["one"], first=RESUMED + 1)


def test_a_sharded_checkpoint_is_exported_to_one_folder_that_diffusers_loads(folder, two, tmp_path):
    for checkpoint, expected in ((folder / "fsdp2/run", two["fsdp2"]["ema"]), (folder / "fsdp2" / MIDDLE, None)):
        run = load_run(checkpoint)
        expected = expected or {n: w.clone() for n, w in run.module.named_parameters()}
        exported = as_pipeline(run).save_pretrained(tmp_path / checkpoint.name)
        assert [path.name for path in (exported / "transformer").glob("*.safetensors")] == [SAFETENSORS_WEIGHTS_NAME]
        plain = WanTransformer3DModel.from_pretrained(exported / "transformer").state_dict()
        assert difference(plain, {name: expected[f"backbone.wan.{name}"] for name in plain}) == 0


def test_a_sharded_run_is_loaded_like_any_other(folder, two):
    path = resume_path(str(folder / "fsdp2/run"), folder)
    assert path.is_dir()
    for ema, part in ((False, "weights"), (True, "ema")):
        loaded = load_run(folder / "fsdp2/run", ema=ema).module.state_dict()
        assert difference(two["fsdp2"][part], loaded) == 0
    assert not list(path.parent.glob("*.partial"))
    assert sorted(p.name for p in path.parent.glob("step_*")) == [f"step_{step:06d}.ckpt" for step in (RESUMED, STEPS)]
