"""Adapters beside frozen, sharded weights: trained, saved, resumed and exported as in one process."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from interp_refiner.assemble import load_run
from interp_refiner.storyboard import as_pipeline
from interp_refiner.training.checkpoint import resume_path, stored_names
from tests.model.backbone.small_wan import save_base
from tests.training.strategy.groups import UNSAVED, Fit, dealt, difference, fits_together

pytest.importorskip("peft")
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("processes")]
STEPS, RESUMED = 4, 2
MIDDLE = f"run/checkpoints/step_{RESUMED:06d}.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lora")


@pytest.fixture(scope="module")
def fits(folder):
    """One process; two with a shard each, again from their own middle, and from that of one process."""
    options = [*save_base(folder / "base"), "backbone.lora.rank=4", "optimizer.lr=0.01"]
    one, two = (
        [*dealt(strategy, 4 // world, 1, world, STEPS, RESUMED), *options]
        for strategy, world in (("auto", 1), ("fsdp2", 2))
    )
    single = fits_together([Fit("one", one)], folder, 1)
    sharded = [
        Fit("fsdp2", two),
        Fit("fsdp2_again", [*two, *UNSAVED], f"fsdp2/{MIDDLE}"),
        Fit("fsdp2_from_one", [*two, *UNSAVED], f"one/{MIDDLE}"),
    ]
    return {**single, **fits_together(sharded, folder, 2)}


@pytest.mark.parametrize("name", ["fsdp2", "fsdp2_again", "fsdp2_from_one"])
def test_adapters_train_and_resume_as_in_one_process(fits, name):
    found, one = fits[name], fits["one"]
    assert list(found["losses"]) == list(range(1 if name == "fsdp2" else RESUMED + 1, STEPS + 1))
    assert found["ema"].keys() == one["ema"].keys()
    assert any("lora_B" in weight and value.abs().max() > 1e-3 for weight, value in found["weights"].items())
    for part, tolerance in {"losses": 1e-6, "figures": 1e-5, "ema": 1e-4, "weights": 1e-4}.items():
        apart = difference(found[part], one[part])
        assert apart < tolerance, part


def test_a_resumed_sharded_run_repeats_itself(fits):
    for part in ("weights", "ema", "figures"):
        assert difference(fits["fsdp2_again"][part], fits["fsdp2"][part]) == 0


def test_a_sharded_checkpoint_leaves_out_what_is_frozen(fits, folder):
    path = resume_path(str(folder / "fsdp2/run"), folder)
    assert path.is_dir()
    names = stored_names(path, "state_dict")
    assert any("lora_" in name for name in names)
    assert all("lora_" in name for name in names if name.startswith("backbone.wan."))


def test_an_export_of_sharded_adapters_is_that_of_one_process(fits, folder, tmp_path):
    plain = {}
    for name in ("one", "fsdp2"):
        exported = as_pipeline(load_run(folder / name / "run", ema=False)).save_pretrained(tmp_path / name)
        plain[name] = WanTransformer3DModel.from_pretrained(exported / "transformer").state_dict()
    base = WanTransformer3DModel.from_pretrained(folder / "base").state_dict()
    assert plain["fsdp2"].keys() == base.keys()
    assert sum(not torch.equal(weight, base[name]) for name, weight in plain["fsdp2"].items()) == 2 * (4 + 4 + 2)
    assert difference(plain["fsdp2"], plain["one"]) < 1e-4
    raw = fits["fsdp2"]["weights"]
    name = "blocks.1.ffn.net.2."
    low = [raw[f"backbone.wan.{name}lora_{part}.default.weight"] for part in "BA"]
    torch.testing.assert_close(plain["fsdp2"][f"{name}weight"], base[f"{name}weight"] + low[0] @ low[1])
