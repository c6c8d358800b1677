"""A student of a trained bridge: how it starts, what it learns from, and how it is loaded."""

import copy

import pytest
import torch

from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue
from interp_refiner.model.attention import Flops
from interp_refiner.model.objective import Preconditioned
from interp_refiner.model.sampler import Consistency, OneJump
from interp_refiner.training import Discrete, Distill, Refiner
from interp_refiner.training.checkpoint import FAKE
from interp_refiner.training.distill import matched
from interp_refiner.training.optimizer import AdamW
from interp_refiner.training.teacher import check_bridge
from tests.config.small import small_config
from tests.factories import make_corruption, make_objective, random_clip, spec_of
from tests.model.backbone.small_wan import small_wan

BRIDGE = ["corruption/bridge_time=uniform", "corruption.sigma=0.7", "schedule.k_min=2", "schedule.num_levels=2"]


def teacher(corruption=None, **sizes):
    corruption = corruption or make_corruption(*BRIDGE)
    refiner = Refiner(
        small_wan(num_layers=1, **sizes), Preconditioned(spec_of(), 2, 1.0, 10.0), AdamW(), OneJump(), corruption
    )
    torch.nn.init.normal_(refiner.backbone.wan.proj_out.weight, std=0.1)
    torch.nn.init.normal_(refiner.objective.arc.log_variance, std=0.02)
    return refiner


def student(taught_by, corruption=None, objective="consistency", tangent=None, **sizes):
    corruption = corruption or taught_by.corruption
    parts = small_wan(num_layers=1, **sizes), make_objective(objective, 2), AdamW(), Consistency(), corruption
    made = Distill(*parts, teacher=taught_by, tangent=tangent or Discrete())
    made.log = made.log_dict = lambda *args, **kwargs: None
    return made


def corrupted(corruption, **fields):
    return corruption(random_clip(batch=2, frames=5, space=(4, 4), step=0, **fields), "train")


def test_a_student_starts_as_its_teacher_and_shares_nothing_with_it():
    taught_by = teacher()
    made = student(taught_by)
    state = corrupted(made.corruption)
    with torch.no_grad():
        assert torch.equal(made.clean_estimate(state), taught_by.clean_estimate(state))
        before = made.teacher(state)
        for weight in made.backbone.parameters():
            weight.add_(0.1)
        assert torch.equal(made.teacher(state), before)
        assert not torch.equal(made.clean_estimate(state), before)


def test_only_the_student_is_trained_saved_and_averaged():
    made = student(teacher())
    assert not any("teacher" in name for name in [*made.state_dict(), *dict(made.named_parameters())])
    assert not any(weight.requires_grad for weight in made.teacher.parameters())
    made.training_step(corrupted(made.corruption), 0).backward()
    trained = {name: weight for name, weight in made.named_parameters() if weight.requires_grad}
    assert "objective.arc.log_variance" not in trained
    assert sum(weight.grad is not None and bool(weight.grad.any()) for weight in trained.values()) > len(trained) / 2
    made.double()
    assert {weight.dtype for weight in made.teacher.parameters()} == {torch.float64}


def test_the_target_comes_from_the_teacher_and_the_unit_from_the_truth():
    made = student(teacher(), tangent=Discrete(first=1.0, last=1.0))
    state = corrupted(made.corruption)
    made.objective.observe(state)
    expected = made.objective.level_error.pending.clone()
    made.objective.level_error.discard()
    with torch.no_grad():
        loss = made.training_step(state, 0)
    assert torch.equal(made.objective.level_error.pending, expected)
    assert loss < 1e-10  # one step of the teacher ends at its estimate, where the student starts


def test_the_loss_falls_and_the_student_leaves_the_mean():
    torch.manual_seed(0)
    made = student(teacher(), tangent=Discrete(first=1.0, last=1.0, substeps=4))
    state = corrupted(make_corruption(*BRIDGE, "corruption/bridge_time=fully_corrupted"))
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(made.training_step(state, 0))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_its_operations_are_counted():
    made = student(teacher(), tangent=Discrete(substeps=3))
    made.backbone.flops = lambda batch, *_: Flops(linear=7.0 * batch)
    assert made.step_flops(corrupted(made.corruption)) == 2 * 7 * (3 + 3 + 1)


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


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [
        (["training=distill", "training.teacher=shipped"], "distribution_matching"),
        (["objective=consistency", "sampler=consistency"], "distill"),
        (["sampler=consistency"], "training=distill"),
        (["objective=consistency", "sampler=bridge", "training=distill"], "consistency"),
        (["objective=consistency", "training=distill", "sampler=consistency"], "shipped"),
        (["objective=consistency", "training=distill", "sampler=consistency", "training.teacher=shipped"], "clips"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_network_is_built(overrides, allowed, tmp_path):
    with pytest.raises(BadValue, match=allowed):
        assemble(small_config(tmp_path, "corruption.sigma=0.5", *overrides))


def test_distribution_matching_leads_clips_from_the_fake_estimate_to_the_teachers():
    z, fake, teacher = (torch.randn(3, 4, 5, 2, 2) for _ in range(3))
    free = torch.ones(3, 5, dtype=torch.bool)
    free[:, 0] = False
    led = matched(z, fake, teacher, free)
    for i in range(3):
        size = (z - teacher)[i, :, 1:].abs().mean()
        torch.testing.assert_close(led[i], z[i] - (fake - teacher)[i] / size)
    torch.testing.assert_close(matched(z, teacher, teacher, free), z)


class TestFakeNetwork:
    """Beside the student, of the student's own clips."""

    @pytest.fixture
    def made(self):
        made = student(teacher(), objective="rcm")
        made.learns.matching.student_every = 2
        return made

    @staticmethod
    def at(made, step):
        return made.corruption(random_clip(batch=2, frames=5, space=(4, 4), step=step), "train")

    def gradients(self, made, step):
        made.zero_grad()
        made.training_step(self.at(made, step), 0).backward()
        return [sum(w.grad is not None for w in module.parameters()) for module in (made.backbone, made.fake)]

    def test_it_learns_in_every_step_and_the_student_in_its_turn(self, made):
        for step, learns in ((0, True), (1, False), (2, True)):
            of_student, of_fake = self.gradients(made, step)
            assert (of_student > 0) == learns
            assert of_fake > 0

    def test_its_own_loss_reaches_no_student_and_the_students_no_fake_network(self, made):
        terms = made.matching(self.at(made, 0))
        assert set(terms) == {"fake", "matching"}
        terms["fake"].backward(retain_graph=True)
        assert all(w.grad is None for w in made.backbone.parameters())
        made.zero_grad()
        terms["matching"].backward()
        assert all(w.grad is None for w in made.fake.parameters())

    def test_its_samples_do_not_enter_the_error_of_the_level(self, made):
        state = self.at(made, 0)
        made.matching(state)
        assert made.objective.level_error.pending is None
        made.training_step(state, 0)
        pending = made.objective.level_error.pending.clone()
        made.objective.level_error.discard()
        made.objective.observe(state)
        assert torch.equal(made.objective.level_error.pending, pending)

    def test_at_the_start_it_agrees_with_the_teacher_so_nothing_is_led_anywhere(self, made):
        assert made.matching(self.at(made, 0))["matching"] < 1e-12

    def test_it_is_saved_with_the_student_and_needs_bridge_times(self, made):
        assert any(name.startswith(FAKE) for name in made.state_dict())
        with pytest.raises(BadValue, match="bridge_time"):
            student(teacher(make_corruption(*BRIDGE[1:])), objective="rcm")


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
