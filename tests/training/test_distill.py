"""A student of a trained bridge: its start, its targets, and how it is loaded."""

import pytest
import torch

from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue
from interp_refiner.model.attention import Flops
from interp_refiner.model.backbone import FullRecomputation, NoRecomputation
from interp_refiner.training import Discrete
from interp_refiner.training.checkpoint import FAKE
from interp_refiner.training.distill import matched
from tests.config.small import small_config
from tests.factories import make_corruption, random_clip
from tests.training.students import BRIDGE, corrupted, student, teacher


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
    made = student(teacher(), tangent=Discrete(first=1.0, last=1.0, substeps=1))
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


SHIPPED = ["training.teacher=shipped", "backbone=factorised", "backbone.size.dim=96", "backbone.size.num_heads=3"]


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [
        (["training=distill", "training.teacher=shipped"], "distribution_matching"),
        (["objective=consistency", "sampler=consistency"], "distill"),
        (["sampler=consistency"], "training=distill"),
        (["objective=consistency", "sampler=bridge", "training=distill"], "consistency"),
        (["objective=consistency", "training=distill", "sampler=consistency"], "shipped"),
        (["objective=consistency", "training=distill", "sampler=consistency", *SHIPPED], "clips"),
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

    def test_it_keeps_as_much_for_its_backward_pass_as_the_student(self):
        full = FullRecomputation()
        made = student(teacher(), objective="rcm", recomputation=full)
        assert made.fake.recomputation is full
        assert type(made.teacher.backbone.recomputation) is NoRecomputation

    def test_it_is_saved_with_the_student_and_needs_bridge_times(self, made):
        assert any(name.startswith(FAKE) for name in made.state_dict())
        with pytest.raises(BadValue, match="bridge_time"):
            student(teacher(make_corruption(*BRIDGE[1:])), objective="rcm")

    def test_its_copy_of_a_loaded_teacher_is_in_training_mode(self):
        taught = teacher()
        taught.eval()
        assert all(module.training for module in student(taught, objective="rcm").fake.modules())
