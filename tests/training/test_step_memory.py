"""The computed memory of a step: against what autograd saves, and against the GPUs of the scales."""

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner.assemble import forward_process, refiner
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.codec import PatchDCT
from interp_refiner.model.attention import Dense
from interp_refiner.model.backbone import Blocks, Interface, Wan, WanSize
from interp_refiner.model.backbone.lora import LoRA
from interp_refiner.model.backbone.recomputation import (
    AROUND,
    FullRecomputation,
    NoRecomputation,
    SelectiveRecomputation,
)
from interp_refiner.model.objective import EnergyScore, PatchScore, Preconditioned
from interp_refiner.model.sampler import Consistency, OneJump
from interp_refiner.train import fit
from interp_refiner.training import Discrete, Distill, Refiner
from interp_refiner.training.optimizer import AdamW
from interp_refiner.training.settings import TrainSettings, check_bases
from interp_refiner.training.step_memory import check_step_memory, step_memory
from tests.config.test_compose import composed
from tests.factories import corrupted_clip, make_corruption
from tests.helpers import build
from tests.model.backbone.small_wan import small_wan
from tests.training.students import BRIDGE

SPEC = ClipSpec((16, 21, 60, 104), (512, 4096))
FRAMES, SPACE = 5, (8, 16)


def saved_bytes(model) -> int:
    """Of all tensors that autograd keeps of a forward pass under autocast, weights and their copies left out."""
    clip = corrupted_clip("schedule.k_min=2", "schedule.num_levels=2", batch=2, frames=FRAMES, space=SPACE)[0]
    shapes = {shape for p in model.parameters() if p.ndim == 2 for shape in (tuple(p.shape), tuple(p.shape)[::-1])}
    seen: dict[int, int] = {}
    kept = []

    def pack(value):
        kept.append(value)  # so that no memory is used twice
        if value.ndim != 2 or tuple(value.shape) not in shapes:
            seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), torch.autocast("cpu", torch.bfloat16):
        model(clip)
    return sum(size for place, size in seen.items() if place not in own)


@pytest.mark.parametrize("heads", [4, 8])
@pytest.mark.parametrize("recomputation", [NoRecomputation, FullRecomputation])
def test_activations_are_those_that_autograd_saves(heads, recomputation):
    """Block by block, and around the blocks. The graph of the block that is run again comes in the backward pass."""
    size = {"num_attention_heads": heads, "attention_head_dim": 32, "ffn_dim": 96 * heads, "freq_dim": 32}

    def model(layers):
        return small_wan(num_layers=layers, **size, attention=Dense(), recomputation=recomputation())

    def paper(layers):
        return model(layers).activation_bytes(2, (4, FRAMES, *SPACE), 5)

    found = {layers: saved_bytes(model(layers)) for layers in (2, 4)}
    assert (paper(4) - paper(2)) == pytest.approx(found[4] - found[2], rel=0.06)
    assert paper(2) >= 0.94 * found[2]
    if recomputation is FullRecomputation:
        around = found[2] - (found[4] - found[2])
        assert around == pytest.approx(AROUND * 2 * model(1).tokens((4, FRAMES, *SPACE)) * 32 * heads, rel=0.15)


def on_meta(*overrides: str):
    """The refiner of a recipe without its numbers, and its config."""
    cfg = composed("train", *overrides)
    OmegaConf.resolve(cfg.backbone)
    codec = PatchDCT()
    return refiner(cfg, SPEC, forward_process(cfg.corruption, codec), codec, device="meta"), cfg


def needed(*overrides: str):
    made, cfg = on_meta(*overrides)
    return step_memory(made, SPEC, cfg.data.batch_size), made, cfg


@pytest.mark.parametrize("scale", ["h100", "a6000", "rtx4090", "h200", "b200_node"])
def test_every_scale_fits_its_gpu_and_uses_it(scale):
    memory, made, cfg = needed(f"scale={scale}")
    check_step_memory(made, SPEC, cfg.data.batch_size, cfg.gpu_gb)
    assert memory.total / 1e9 > 0.6 * cfg.gpu_gb
    if scale != "rtx4090":
        parameters = sum(p.numel() for p in made.parameters())
        assert parameters == pytest.approx(1.42e9, rel=0.02)
        state = memory.weights + memory.gradients + memory.moments + memory.averages
        assert state == 20 * parameters


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["scale=rtx4090", "backbone.lora.rank=null"], "weights 5.7, gradients 5.7, moments 11.5, averages 5.7"),
        (["scale=a6000", "data.batch_size=4"], "activations"),
        (["scale=h100", "activation_gb=60.0"], "activations"),
        (["scale=rtx4090", "backbone/recomputation=none"], "activations"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(overrides, parts):
    _, made, cfg = needed(*overrides)
    said = rf"^gpu_gb={cfg.gpu_gb}: expected more: a step needs \d+\.\d GB \(.*{parts}.*activation_gb"
    with pytest.raises(BadValue, match=said):
        check_step_memory(made, SPEC, cfg.data.batch_size, cfg.gpu_gb)


def numel(*networks):
    return sum(weight.numel() for network in networks for weight in network.parameters())


class TestDistillation:
    """Of networks without numbers: 21 x 60 x 104 latents are 21 * 30 * 52 = 32760 tokens of 2 heads x 32."""

    WIDTH, FFN, LAYERS, TOKENS = 64, 128, 3, 32760

    @staticmethod
    def network(**sizes):
        with torch.device("meta"):
            size = WanSize(num_layers=3, num_attention_heads=2, attention_head_dim=32, ffn_dim=128, freq_dim=32)
            blocks = Blocks(sizes.pop("recomputation", FullRecomputation()))
            return Wan(Interface(SPEC), size, blocks=blocks, **sizes)

    def student(self, objective="consistency", **sizes):
        corruption = make_corruption(*BRIDGE)
        bridge = Preconditioned(SPEC, 2, 1.0, 10.0)
        taught_by = Refiner(self.network(), bridge, AdamW(), OneJump(), corruption)
        learns = build("objective", objective, spec=SPEC, num_levels=2)
        parts = self.network(**sizes), learns, AdamW(), Consistency(), corruption
        return Distill(*parts, teacher=taught_by, tangent=Discrete())

    def one_pass(self, clips):
        """Inputs of the blocks, and modulation around them; the graph of one block comes once, whatever the passes."""
        inputs, around = 2 * self.LAYERS * self.WIDTH, 42 * self.WIDTH
        return clips * self.TOKENS * (inputs + around), clips * self.TOKENS * (102 * self.WIDTH + 4 * self.FFN)

    def check(self, made, kept, trained, passes, clips=2):
        memory = step_memory(made, SPEC, clips)
        kept_by_pass, graph = self.one_pass(clips)
        assert memory.weights == 4 * kept
        assert memory.gradients == memory.averages == 4 * trained
        assert memory.moments == 8 * trained
        assert memory.casts == 2 * trained
        assert memory.activations == passes * kept_by_pass + graph

    def test_of_consistency_the_teacher_counts(self):
        made = self.student()
        n = numel(made.backbone)
        self.check(made, kept=2 * n + 2 * 16, trained=n + 16, passes=1)  # 16: gain and, frozen, variance of a channel

    @pytest.mark.parametrize(("objective", "passes"), [("distribution_matching", 2), ("rcm", 3)])
    def test_a_fake_network_counts_like_the_student_and_its_passes_live_at_once(self, objective, passes):
        made = self.student(objective)
        n = numel(made.backbone)
        self.check(made, kept=3 * n + 2 * 16, trained=2 * n + 16, passes=passes)

    def test_a_base_that_a_student_with_adapters_shares_counts_once(self):
        made = self.student(lora=LoRA(4))
        d, f = self.WIDTH, self.FFN
        adapters = self.LAYERS * 4 * (8 * 2 * d + 2 * (d + f))  # 8 square matrices of attention, 2 of feed-forward
        network = made.backbone
        beside = numel(network.keyframe_embedding, network.frame_numbers, network.wan.proj_out)
        base = numel(self.network())
        self.check(made, kept=base + adapters + 2 * 16 + beside, trained=adapters + beside + 16, passes=1)

    def test_a_fake_network_beside_a_student_with_adapters_is_a_whole_one(self):
        made = self.student("rcm", lora=LoRA(4))
        alone = step_memory(self.student(lora=LoRA(4)), SPEC, 2)
        memory, base = step_memory(made, SPEC, 2), numel(self.network())
        assert memory.weights - alone.weights == 4 * base
        assert memory.moments - alone.moments == 8 * base

    def test_what_selective_recomputation_keeps_is_kept_by_every_pass(self):
        selective = SelectiveRecomputation()
        found = [
            step_memory(self.student(name, recomputation=selective), SPEC, 1).activations
            for name in ("consistency", "distribution_matching", "rcm")
        ]
        assert found[2] - found[1] == found[1] - found[0]
        per_token = (4 + 3 + 1) * self.WIDTH + self.FFN + self.WIDTH  # of products, of attention, in bfloat16
        kept = self.LAYERS * (2 * self.TOKENS * per_token + 2 * 512 * 2 * self.WIDTH + 4 * 2 * self.TOKENS)
        assert found[1] - found[0] == kept + self.one_pass(1)[0]

    def test_every_sample_of_an_energy_score_has_a_pass(self):
        corruption = make_corruption(*BRIDGE[1:])
        for samples in (2, 3):
            score = EnergyScore(SPEC, 2, score=PatchScore(samples))
            made = Refiner(self.network(), score, AdamW(), OneJump(), corruption)
            n = numel(made)
            self.check(made, kept=n, trained=n, passes=samples)

    def test_what_fits_without_a_fake_network_may_not_fit_with_one(self):
        alone, beside = (step_memory(self.student(name), SPEC, 2).total for name in ("consistency", "rcm"))
        gigabytes = (alone + beside) / 2e9
        check_step_memory(self.student(), SPEC, 2, gigabytes)
        with pytest.raises(BadValue, match=r"^gpu_gb=.*weights.*activations"):
            check_step_memory(self.student("rcm"), SPEC, 2, gigabytes)


def test_frozen_matrices_in_bfloat16_train_beside_adapters_and_merge_into_float32():
    model = small_wan(lora=LoRA(4, frozen_dtype="bfloat16"))
    kinds = {name: p.dtype for name, p in model.named_parameters()}
    assert {p for name, p in kinds.items() if ".base_layer.weight" in name} == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    clip = corrupted_clip("schedule.k_min=2", "schedule.num_levels=2", batch=2, frames=5, space=(8, 6))[0]
    with torch.autocast("cpu", torch.bfloat16):
        before = model(clip)
        before.square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for name, p in model.named_parameters() if ".lora_B" in name)
    model.merge_adapters()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with torch.no_grad():
        assert (model(clip) - before).norm() < 0.05 * before.norm()


def test_frozen_matrices_in_bfloat16_need_a_run_in_it(tmp_path):
    cfg = composed("train", "scale=rtx4090", "trainer.precision=32-true", f"paths.output_dir={tmp_path}")
    with pytest.raises(BadValue, match=r"trainer\.precision=32-true: expected bf16-mixed"):
        TrainSettings.check(cfg)


def test_adapters_of_a_new_run_need_matrices_that_are_not_random(tmp_path):
    def cfg(*options):
        return composed("train", "scale=rtx4090", f"paths.output_dir={tmp_path}", *options)

    with pytest.raises(
        BadValue, match=r"backbone\.pretrained=None: expected a Wan model, or initial_weights: .* freezes"
    ):
        fit(cfg(), None)
    check_bases(cfg("backbone.lora.rank=null"))
    check_bases(composed("train", "backbone=factorised", f"paths.output_dir={tmp_path}"))
    for based in ("backbone.pretrained=somewhere", "initial_weights=somewhere"):
        check_bases(cfg(based))
    check_bases(cfg("training=distill", "training.teacher=shipped"))
