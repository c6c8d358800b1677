"""Low-rank adapters: what is trained and saved, what they do at the start, and that merging them changes nothing."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from interp_refiner.assemble import load_run
from interp_refiner.core import BadValue
from interp_refiner.model.attention import SparseLinear
from interp_refiner.model.backbone import Adapter, LoRA, bases, write_adapters
from interp_refiner.model.backbone.lora import merge
from interp_refiner.storyboard import as_pipeline
from tests.model.backbone.small_wan import SIZE, clip, loss_and_gradients, save_base, small_wan
from tests.training.checkpoint.runs import fit

pytest.importorskip("peft")


def with_lora(**settings):
    """The weights of ``small_wan`` with adapters as they start, B = 0."""
    model, base = small_wan(lora=LoRA(rank=2), **settings), small_wan(**settings).state_dict()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
        elif "lora_A" not in name:
            parameter.data.copy_(base[name.replace(".base_layer", "")])
    return model


def test_the_base_is_frozen_and_adapters_and_added_layers_are_trained():
    model = small_wan(lora=LoRA(rank=2), attention=SparseLinear())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    added = {"keyframe_embedding.", "frame_numbers.", "processor.layer.", "lora_"}
    assert all(any(part in name for part in added) for name in trained)
    assert all(any(part in name for name in trained) for part in added)
    adapted = {name.partition(".lora_A")[0] for name in trained if "lora_A" in name}
    assert len(adapted) == SIZE["num_layers"] * (4 + 4 + 2)  # self-attention, cross-attention, feed-forward
    _, gradients = loss_and_gradients(model, clip())
    assert gradients.keys() == trained
    model.zero_output()  # a new head has to be trained
    assert model.wan.proj_out.weight.requires_grad


def test_adapters_do_nothing_at_the_start():
    torch.testing.assert_close(with_lora()(clip()), small_wan()(clip()), atol=0, rtol=0)


def test_merged_equals_unmerged_under_plain_names():
    model = small_wan(lora=LoRA(rank=2, alpha=3.0))
    before = model(clip())
    to_q = model.wan.blocks[0].attn1.to_q
    expected = to_q.base_layer.weight + 1.5 * to_q.lora_B["default"].weight @ to_q.lora_A["default"].weight
    merged = merge(model.wan)
    assert len(merged) == 30
    assert merged["blocks.0.attn1.to_q"].scale == 1.5
    torch.testing.assert_close(model.wan.blocks[0].attn1.to_q.weight, expected)
    torch.testing.assert_close(model(clip()), before, atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == small_wan().state_dict().keys()
    assert (model(clip()) - small_wan()(clip())).abs().max() > 1e-3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two steps with adapters beside pretrained weights, made in two parts, and its folder."""
    folder = tmp_path_factory.mktemp("lora") / "whole"
    options = [*save_base(folder / "base"), "backbone.lora.rank=4"]
    options += ["optimizer.lr=0.01", "trainer.val_check_interval=100"]
    for steps in (1, 2):
        trainer = fit(folder, [*options, f"trainer.max_steps={steps}"])
    return folder, trainer


def test_a_checkpoint_leaves_out_what_is_frozen_and_goes_on(runs):
    folder, trainer = runs
    checkpoint = torch.load(folder / "run/checkpoints/step_000002.ckpt", weights_only=True)
    names = {name for name in checkpoint["state_dict"] if name.startswith("backbone.wan.")}
    assert names
    assert all("lora_" in name for name in names)
    assert set(checkpoint["ema_state_dict"]) == {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    base = WanTransformer3DModel.from_pretrained(folder / "base").state_dict()
    module = trainer.lightning_module.backbone.wan.state_dict()
    name = "blocks.1.ffn.net.0.proj.{}weight"
    assert torch.equal(module[name.format("base_layer.")], base[name.format("")])
    assert module["blocks.1.ffn.net.0.proj.lora_B.default.weight"].abs().max() > 0


def test_an_export_is_merged_and_diffusers_loads_it(runs, tmp_path):
    """``load_run`` merges, so that the exported transformer has diffusers' own names and gives the same output."""
    folder, trainer = runs
    run = load_run(folder / "run", ema=False)
    assert "lora" not in run.config.backbone
    exported = as_pipeline(run).save_pretrained(tmp_path / "exported")
    plain = WanTransformer3DModel.from_pretrained(exported / "transformer").state_dict()
    adapted = trainer.lightning_module.backbone
    merge(adapted.wan)
    assert {name for name in plain if "lora" in name} == set()
    for name, weight in plain.items():
        torch.testing.assert_close(weight, adapted.wan.state_dict()[name], atol=0, rtol=0)
    base = WanTransformer3DModel.from_pretrained(folder / "base").state_dict()
    moved = {name for name in plain if not torch.equal(plain[name], base[name])}
    assert len(moved) == 2 * (4 + 4 + 2)


def test_adapters_start_beside_the_weights_of_a_full_run_which_their_checkpoints_hold(runs, tmp_path):
    """Which are not the pretrained ones any more; also after the run was resumed."""
    base = runs[0] / "base"
    options = [*save_base(base), "optimizer.lr=0.01", "trainer.val_check_interval=100"]
    fit(tmp_path / "full", [*options, "trainer.max_steps=1"])
    full = load_run(tmp_path / "full/run").module.state_dict()
    options += ["backbone.lora.rank=4", f"initial_weights={tmp_path / 'full/run'}"]
    for steps in (1, 2):
        trainer = fit(tmp_path / "adapted", [*options, f"trainer.max_steps={steps}"])
    name = "backbone.wan.blocks.1.ffn.net.0.proj.{}weight"
    trained = trainer.model.state_dict()
    assert torch.equal(trained[name.format("base_layer.")], full[name.format("")])
    low = [trained[name.format(f"lora_{part}.default.")] for part in "BA"]
    merged = load_run(tmp_path / "adapted/run", ema=False).module.state_dict()
    assert merged.keys() == full.keys()
    torch.testing.assert_close(merged[name.format("")], full[name.format("")] + low[0] @ low[1])
    pretrained = WanTransformer3DModel.from_pretrained(base).state_dict()
    assert not torch.equal(full[name.format("")], pretrained["blocks.1.ffn.net.0.proj.weight"])


def test_adapters_that_started_from_a_file_are_loaded_and_resumed_without_it(tmp_path):
    """With adapters in some layers only, and with a scale."""
    base = save_base(tmp_path / "base")
    shapes = {n: w.shape for n, w in WanTransformer3DModel.from_pretrained(tmp_path / "base").state_dict().items()}
    names = ["blocks.0.attn1.to_q", "blocks.1.ffn.net.2"]
    made = {n: Adapter(torch.ones(3, shapes[f"{n}.weight"][1]), torch.ones(shapes[f"{n}.weight"][0], 3)) for n in names}
    file = write_adapters(made, tmp_path / "lora.safetensors", "diffusers")
    options = [*base, f"backbone.lora.weights={file}", "backbone.lora.alpha=1.5", "trainer.val_check_interval=100"]
    fit(tmp_path / "run", [*options, "trainer.max_steps=1"])
    before = load_run(tmp_path / "run/run").module.state_dict()
    file.unlink()
    after = load_run(tmp_path / "run/run").module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    resumed = fit(tmp_path / "run", [*options, "trainer.max_steps=2"])
    assert resumed.global_step == 2
    assert bases(resumed.lightning_module.backbone.wan).keys() == set(names)
    with pytest.raises(BadValue, match=r"weights=.*lora\.safetensors"):  # a new run needs the file
        fit(tmp_path / "new", [*options, "trainer.max_steps=1"])


def test_layers_that_the_transformer_does_not_have_are_refused():
    with pytest.raises(BadValue, match=r"^layers=\['blocks\.9\.to_q'\]: expected layers of the transformer"):
        small_wan(lora=LoRA(rank=2, layers=["blocks.0.attn1.to_q", "blocks.9.to_q"]))


@pytest.mark.parametrize("setting", [{"rank": 0}, {"alpha": 0.0}], ids=str)
def test_bad_settings_name_themselves(setting):
    with pytest.raises(BadValue, match=next(iter(setting))):
        LoRA(**setting)
