"""The teacher of a student: which students it takes, and how its weights are kept."""

import copy

import pytest
import torch

from interp_refiner.core import BadValue, Reflection
from interp_refiner.forward.interpolator import FlowWarp
from interp_refiner.model.attention import Flops, SparseLinear
from interp_refiner.model.backbone import BracketingKeyframes, Global, LoRA
from interp_refiner.model.objective import Gate, Preconditioned, Robust
from interp_refiner.model.sampler import Bridge, ClassifierFree, Consistency, MirroredViews, OneJump, self_ensemble
from interp_refiner.training import Discrete, Distill, Refiner
from interp_refiner.training.optimizer import AdamW
from interp_refiner.training.teacher import SharedBase, check_bridge
from tests.factories import make_corruption, make_objective, random_clip, spec_of
from tests.model.backbone.small_wan import small_wan
from tests.training.students import BRIDGE, corrupted, student, teacher


def test_another_bridge_another_network_and_another_objective_are_refused():
    taught_by = teacher()
    for override, name in (("corruption.sigma=0.5", "sigma"), ("corruption=gauss", "noise")):
        with pytest.raises(BadValue, match=name):
            student(taught_by, make_corruption(*BRIDGE, override))
    with pytest.raises(BadValue, match="backbone"):
        student(taught_by, ffn_dim=32)
    with pytest.raises(BadValue, match="distribution_matching"):
        student(taught_by, objective="preconditioned")
    again = copy.copy(taught_by)
    again.objective = make_objective("consistency", 2)
    with pytest.raises(BadValue, match="preconditioned"):
        student(again)


def test_the_bridge_of_an_exported_teacher_is_the_same_bridge():
    """A pipeline fixes the length of its clips in the noise profile; a run takes it from the clips."""
    own, exported = (make_corruption("corruption=dist", "corruption.sigma=0.4") for _ in range(2))
    exported.noise = exported.noise.of_clips(21)
    check_bridge(own, exported)
    own.noise = own.noise.of_clips(9)
    with pytest.raises(
        BadValue, match=r"corruption\.noise=BrownianBridge: expected BrownianBridge with .*num_frames=21"
    ):
        check_bridge(own, exported)


def test_a_teacher_averages_the_views_of_its_sampler():
    taught_by = teacher()
    taught_by.sampler = OneJump(views=MirroredViews())
    statistics = torch.tensor([1.0, -1, 1, -1]), torch.linspace(-0.5, 0.5, 4), torch.linspace(0.5, 2, 4)
    taught_by.corruption.reflections = tuple(Reflection(axis, *statistics) for axis in (-1, -2))
    made = student(taught_by, tangent=Discrete(substeps=2))
    state = corrupted(made.corruption)
    with torch.no_grad():
        expected = self_ensemble(taught_by.clean_estimate, state, taught_by.corruption.reflections)
        torch.testing.assert_close(made.teacher(state), expected)
    made.backbone.flops = lambda batch, *_: Flops(linear=7.0 * batch)
    assert made.step_flops(state) == 2 * 7 * (3 + 4 * 2 + 1)
    taught_by.sampler = OneJump(ClassifierFree())
    guided = student(taught_by, tangent=Discrete(substeps=2))
    guided.backbone.flops = made.backbone.flops
    assert guided.step_flops(state) == 2 * 7 * (3 + 2 * 2 + 1)
    matching = student(taught_by, objective="distribution_matching")
    matching.backbone.flops = made.backbone.flops
    assert matching.step_flops(state) == 2 * 7 * (2 * 3 + 2)  # step 0: student and fake network, and the teacher twice


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective.variance": 5.0}, r"^objective\.variance=5\.0: expected 10\.0, the teacher's$"),
        ({"objective.gate.bias": 1.0}, r"^objective\.gate\.bias=1\.0: expected 2\.0, the teacher's$"),
        ({"objective.gate.groups": 2}, r"^objective\.gate\.groups=2: expected 1, the teacher's$"),
        ({"timestep": Global()}, r"^backbone\.conditioning\.timestep=Global: expected PerFrame, the teacher's$"),
        (
            {"keyframe_channels": BracketingKeyframes()},
            r"^backbone\.conditioning\.keyframe_channels=BracketingKeyframes: expected MaskedKeyframes, the teacher's$",
        ),
        (
            {"num_attention_heads": 4, "attention_head_dim": 16},
            r"^backbone\.size=attention with \[4\] heads: expected \[2\], the teacher's$",
        ),
    ],
)
def test_a_student_with_other_settings_than_its_teachers_is_refused(change, message):
    taught_by = teacher()
    objective = make_objective("consistency", 2)
    objective.arc.variance = change.get("objective.variance", 10.0)
    objective.gate = Gate(change.get("objective.gate.bias", 2.0), change.get("objective.gate.groups", 1))
    network = small_wan(num_layers=1, **{name: value for name, value in change.items() if "." not in name})
    with pytest.raises(BadValue, match=message):
        Distill(network, objective, AdamW(), Consistency(), taught_by.corruption, taught_by, Discrete())


@pytest.mark.parametrize(
    ("teachers", "students", "message"),
    [
        ("linear", "slerp", r"^interpolator=Slerp: expected Linear, the teacher's$"),
        ("sinkhorn interpolator.epsilon=0.5", "sinkhorn", r"^interpolator\.epsilon=.*: expected 0\.5, the teacher's$"),
        ("motion_hypotheses", "motion_hypotheses interpolator.fields.radius=2", r"^interpolator\.fields\.radius=2: "),
        (
            "motion_hypotheses",
            "remembered interpolator@interpolator.inner=motion_hypotheses interpolator.inner.fields.window=5",
            r"^interpolator\.inner\.fields\.window=5: expected 3, the teacher's$",
        ),
        ("spline", "spline", None),
        ("motion_hypotheses", "remembered interpolator@interpolator.inner=motion_hypotheses", None),
        ("remembered interpolator@interpolator.inner=motion_hypotheses", "motion_hypotheses", None),
    ],
)
def test_another_interpolator_is_refused_and_a_cache_around_it_is_none(teachers, students, message):
    own, taught = (make_corruption(*BRIDGE, *f"interpolator={name}".split()) for name in (students, teachers))
    if message is None:
        check_bridge(own, taught)
        return
    with pytest.raises(BadValue, match=message):
        check_bridge(own, taught)


def test_a_learned_interpolator_of_other_weights_is_refused():
    own, taught = (make_corruption(*BRIDGE) for _ in range(2))
    own.interpolator, taught.interpolator = FlowWarp(channels=4), FlowWarp(channels=4)
    taught.interpolator.load_state_dict(own.interpolator.state_dict())
    check_bridge(own, taught)
    torch.nn.init.normal_(taught.interpolator.sharpness)
    with pytest.raises(BadValue, match=r"^interpolator=FlowWarp: expected one with the teacher's weights: sharpness"):
        check_bridge(own, taught)


def test_another_confidence_in_proposals_is_refused_where_both_have_proposals():
    proposals = ["scheduled_sampling=self", "corruption.keyframe_fraction=0.3"]
    own, taught = (
        make_corruption(*BRIDGE, *proposals, *more) for more in ([], ["scheduled_sampling/confidence=linear"])
    )
    with pytest.raises(BadValue, match=r"^scheduled_sampling\.confidence=ConstantConfidence: expected "):
        check_bridge(own, taught)
    never = make_corruption(*BRIDGE, "corruption.keyframe_fraction=0.3")
    check_bridge(never, taught)


class TestAdapters:
    """A student with adapters shares its base with its teacher."""

    @pytest.fixture
    def taught_by(self):
        return teacher()

    @pytest.fixture
    def made(self, taught_by):
        pytest.importorskip("peft")
        made = student(taught_by, lora=LoRA(4))
        for name, weight in made.backbone.named_parameters():
            if ".lora_B" in name:
                torch.nn.init.zeros_(weight)  # as it is before training
        return made

    def test_it_starts_as_its_teacher(self, made, taught_by):
        state = corrupted(made.corruption)
        with torch.no_grad():
            assert torch.equal(made.clean_estimate(state), taught_by.clean_estimate(state))

    def test_the_teacher_stays_as_it_was_while_the_student_learns(self, made, taught_by):
        state, before = corrupted(made.corruption), copy.deepcopy(taught_by).requires_grad_(False)
        optimizer = torch.optim.Adam([weight for weight in made.parameters() if weight.requires_grad], 1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            made.training_step(state, 0).backward()
            optimizer.step()
        with torch.no_grad():
            assert torch.equal(made.teacher(state), before.clean_estimate(state))
            assert not torch.allclose(made.clean_estimate(state), made.teacher(state), atol=1e-3)
        trained = {name for name, weight in made.named_parameters() if weight.requires_grad}
        assert any(".lora_B" in name for name in trained)
        assert {"backbone.keyframe_embedding.weight", "backbone.wan.proj_out.weight"} <= trained

    def test_the_base_is_kept_once(self, made, taught_by):
        assert isinstance(made.teacher.backbone, SharedBase)
        own = sum(weight.numel() for weight in made.teacher.parameters())
        beside = [
            taught_by.backbone.keyframe_embedding,
            taught_by.backbone.frame_numbers,
            taught_by.backbone.wan.proj_out,
        ]
        parts = [*beside, taught_by.objective]
        assert own == sum(weight.numel() for part in parts for weight in part.parameters())
        assert not any("teacher" in name for name in [*made.state_dict(), *dict(made.named_parameters())])

    def test_after_a_failure_the_student_is_itself_again(self, made):
        before = dict(made.backbone.named_modules())
        with made.teacher.backbone.swapped():
            assert dict(made.backbone.named_modules()).keys() != before.keys()
        odd = made.corruption(random_clip(batch=1, frames=5, space=(3, 3)), "val")
        with pytest.raises(BadValue, match="divisible"):
            made.teacher(odd)
        assert dict(made.backbone.named_modules()) == before

    def test_the_fake_network_is_a_whole_one(self, taught_by):
        made = student(taught_by, objective="rcm", lora=LoRA(4))
        assert not any("lora" in name for name in made.fake.state_dict())
        assert all(weight.requires_grad for weight in made.fake.parameters())
        made.training_step(corrupted(made.corruption), 0).backward()
        assert all(weight.grad is not None for name, weight in made.backbone.named_parameters() if ".lora_B" in name)

    def test_frozen_weights_of_another_network_are_refused(self, made):
        state = {name: value.clone() for name, value in made.state_dict().items()}
        made.load_state_dict(state)
        state["backbone.wan.blocks.0.attn1.to_q.base_layer.weight"] += 1
        with pytest.raises(
            BadValue, match=r"^training\.teacher=a network with another wan\.blocks\.0\.attn1\.to_q\.weight"
        ):
            made.load_state_dict(state)

    def test_a_checkpoint_names_its_base_so_that_another_teacher_is_refused_where_weights_are_sharded(self, made):
        checkpoint = {"state_dict": made.state_dict()}
        made.on_save_checkpoint(checkpoint)
        del checkpoint["state_dict"]  # each process reads its shards itself
        made.on_load_checkpoint(dict(checkpoint))
        other_teacher = teacher()
        torch.nn.init.normal_(other_teacher.backbone.wan.blocks[0].attn1.to_q.weight)
        other = student(other_teacher, made.corruption, lora=LoRA(4))
        with pytest.raises(BadValue, match=r"^training\.teacher=a network with other frozen weights: expected the t"):
            other.on_load_checkpoint(dict(checkpoint))
        other.on_load_checkpoint({})  # an older checkpoint

    def test_training_does_not_change_the_name_of_the_base(self, made, taught_by):
        with torch.no_grad():
            for weight in made.parameters():
                if weight.requires_grad:
                    weight.add_(1)
        again = student(taught_by, lora=LoRA(4))
        assert again.teacher.backbone.digest == made.teacher.backbone.digest

    def test_a_base_in_bfloat16_is_the_same_teacher_in_a_run_in_bfloat16(self, taught_by):
        made = student(taught_by, lora=LoRA(4, frozen_dtype="bfloat16"))
        state = corrupted(made.corruption)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(made.teacher(state), taught_by.clean_estimate(state))

    def test_sparse_attention_of_another_ratio_takes_a_teacher_of_its_own(self):
        def sparse(ratio):
            return {"attention": SparseLinear(ratio, block_q=16, block_k=16, tile=None)}

        taught_by = teacher(**sparse(0.5))
        assert isinstance(student(taught_by, lora=LoRA(4), **sparse(0.5)).teacher.backbone, SharedBase)
        assert student(taught_by, lora=LoRA(4), **sparse(0.25)).teacher.backbone is taught_by.backbone


def test_a_teacher_whose_estimates_are_no_means_is_refused():
    taught_by = teacher()
    taught_by.objective.penalty = Robust()
    with pytest.raises(BadValue, match=r"^teacher=trained with objective/penalty=robust: expected one without"):
        student(taught_by)


def test_a_sampler_of_several_steps_warns_where_estimates_are_no_means(caplog):
    objective = Preconditioned(spec_of(), 2, penalty=Robust())
    for sampler in (OneJump(), Bridge(steps=1), Bridge(steps=3)):
        Refiner(small_wan(num_layers=1), objective, AdamW(), sampler, make_corruption(*BRIDGE)).on_fit_start()
    assert [record.message for record in caplog.records] == [
        "sampler: its steps assume that every estimate is the mean; with objective/penalty=robust it is not"
    ]
