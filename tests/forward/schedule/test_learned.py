"""Keyframes from a preview: the network's parts against slow references, frozen weights, content from every source."""

import pytest
import torch

from interp_refiner.core import BadValue, Clip, Draws, save_weights
from interp_refiner.forward.corruption import ClipContent
from interp_refiner.forward.corruption.content import pooled
from interp_refiner.forward.interpolator import Linear
from interp_refiner.forward.schedule import ClipPreview, Learned, Selector
from interp_refiner.forward.schedule.selector import line_cost
from tests.factories import make_corruption, random_clip

SMALL = {"channels": 4, "grid": 2, "width": 8}
CHOSEN = [
    "schedule=learned",
    "schedule/preview=clip",
    *(f"schedule.selector.{name}={value}" for name, value in SMALL.items()),
]


def trained(seed=0):
    """A selector that has left its start."""
    torch.manual_seed(seed)
    selector = Selector(**SMALL)
    with torch.no_grad():
        for weight in selector.parameters():
            weight.normal_(std=0.3)
    return selector


def preview(batch=3, frames=9, seed=0):
    return torch.randn(batch, 4, 4, frames, generator=torch.Generator().manual_seed(seed))


def from_clip(selector, **settings):
    return Learned(selector=selector, preview=ClipPreview(), **settings)


def with_candidates(clip, values, proposed=None):
    """The clip with phase-1 candidates, on all frames unless ``proposed`` says which."""
    everywhere = torch.ones(clip.batch_size, clip.num_frames, dtype=torch.bool)
    return Clip(clip.latents, clip.keys, proposals=values, proposed=everywhere if proposed is None else proposed)


def keyframes(schedule, clip, level=4):
    given = clip.given if clip.given is not None else torch.zeros(clip.batch_size, clip.num_frames, dtype=torch.bool)
    plan = schedule.plan(given, Draws(0, "val", clip.keys), ClipContent(clip, Linear()))
    return plan.mask_at(torch.full((clip.batch_size,), level))


def test_line_cost_is_that_of_the_slow_loop():
    e = preview()[:, 0] + 30  # far from 0: nothing may be lost to rounding
    cost = line_cost(e)
    for i in range(9):
        for j in range(9):
            inside = range(i + 1, j)
            lines = [e[..., i] + (k - i) / (j - i) * (e[..., j] - e[..., i]) for k in inside]
            errors = [(e[..., k] - line).square().sum(1) for k, line in zip(inside, lines, strict=True)]
            torch.testing.assert_close(cost[:, i, j], sum(errors, torch.zeros(3)), atol=1e-3, rtol=1e-4)


def test_an_untrained_selector_goes_by_the_error_of_the_preview():
    selector, e = Selector(**SMALL), preview()
    expected = line_cost(e.flatten(1, 2)) / 16  # mean over channels and cells
    cost = selector(e)
    torch.testing.assert_close(cost / cost.amax(), expected / expected.amax())


def test_every_part_of_the_selector_receives_gradient():
    selector = trained()
    selector(preview())[:, 0, 4].sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in selector.parameters())


def test_features_between_two_frames_are_those_between_only():
    selector, e = trained(), preview(frames=21)
    changed = e.clone()
    changed[..., 15:] += 1
    # kernels of 3 frames twice, on differences of neighbours: frames up to 11 know nothing of frame 15
    before = selector(e)[:, :12, :12].triu(2)
    torch.testing.assert_close(selector(changed)[:, :12, :12].triu(2), before)
    assert not torch.allclose(selector(changed)[:, :12, 16], selector(e)[:, :12, 16])


def test_pooling_averages_cells_and_leaves_paths_alone():
    latents = torch.randn(2, 3, 5, 6, 8)
    cells = pooled(latents.bfloat16(), 2)
    assert cells.shape == (2, 3, 4, 5)
    assert cells.dtype == torch.float32
    torch.testing.assert_close(cells[:, :, 3], latents.bfloat16().float()[..., 3:, 4:].mean((3, 4)))
    path = torch.randn(2, 2, 7)
    assert torch.equal(pooled(path, 4), path.unsqueeze(2))


def test_paths_without_space_are_planned():
    path = torch.zeros(1, 4, 21)
    path[:, :, 10:] = torch.arange(11.0)  # a bend at frame 9 or 10, straight elsewhere
    held = with_candidates(Clip(torch.randn(1, 4, 21), ["a"]), path)
    known = keyframes(Learned(selector=Selector(**SMALL), counts=[3], gap_ratio=None), held, level=1)
    assert known[0].nonzero().flatten().tolist() in ([0, 10, 20], [0, 9, 20])
    with pytest.raises(BadValue, match="preview=clip: expected anchors: a path has no coarser grid"):
        keyframes(from_clip(Selector(**SMALL)), held)


def test_by_default_candidates_are_seen_and_never_the_clip():
    clip, other = random_clip(seed=0), random_clip(seed=1)
    known = keyframes(Learned(selector=trained()), with_candidates(clip, other.latents))
    assert torch.equal(known, keyframes(from_clip(trained()), Clip(other.latents, clip.keys)))
    assert not torch.equal(known, keyframes(from_clip(trained()), clip))
    unreadable = Clip(torch.full_like(clip.latents, torch.nan), clip.keys)
    assert torch.equal(known, keyframes(Learned(selector=trained()), with_candidates(unreadable, other.latents)))
    with pytest.raises(
        BadValue, match=r"clip\.proposals=None: expected phase-1 candidates.*data\.anchors\.always=true"
    ):
        keyframes(Learned(selector=trained()), clip)


def test_a_corruption_says_what_it_needs_and_what_its_schedule_sees():
    learned = ["schedule=learned", "schedule.checkpoint=null"]
    told = {
        "uniform": ([], False, "nothing"),
        "dp": (["schedule=dp"], False, "the clean clip"),
        "candidates": (learned, True, "phase-1 candidates, 4 x 4 cells a frame"),
        "clip": ([*learned, "schedule/preview=clip"], False, "the clean clip, 4 x 4 cells a frame"),
        "replacing": (["scheduled_sampling=phase1"], True, "nothing"),
    }
    for overrides, needs_anchors, sees in told.values():
        corruption = make_corruption(*overrides)
        assert (corruption.needs_anchors, corruption.schedule.sees) == (needs_anchors, sees)


def test_a_grid_that_is_hardly_coarser_than_the_clip_is_refused():
    learned = ["schedule=learned", "schedule.checkpoint=null"]
    for preview in ("clip", "anchors"):
        chosen = [*learned, f"schedule/preview={preview}", "schedule.selector.grid=5"]
        with pytest.raises(BadValue, match="grid=5: expected at most 4, half of the 8 x 14 latents"):
            make_corruption(*chosen).check([16, 21, 8, 14])
    make_corruption(*learned).check([16, 21, 8, 14])


def test_frames_without_a_candidate_lie_on_lines_and_are_not_read():
    clip, proposed = random_clip(batch=2), torch.zeros(2, 21, dtype=torch.bool)
    proposed[0, [2, 7, 11, 18]] = True  # none for the second clip: nothing of it is seen
    values = clip.latents.where(proposed.view(2, 1, 21, 1, 1), torch.nan)
    known = keyframes(Learned(selector=trained()), with_candidates(clip, values, proposed))
    lines = Clip(Linear()(clip.latents[:1], proposed[:1]).latents, clip.keys[:1])
    assert torch.equal(known[:1], keyframes(from_clip(trained()), lines))
    other = Clip(random_clip(batch=2, seed=1).latents, clip.keys)
    assert torch.equal(known, keyframes(Learned(selector=trained()), with_candidates(other, values, proposed)))


def test_given_frames_counts_and_the_cap_are_kept():
    given = torch.zeros(3, 21, dtype=torch.bool)
    given[1, 7] = True
    known = keyframes(from_clip(trained(), gap_ratio=1.2), random_clip(given=given))
    assert known[:, [0, -1]].all()
    assert known[1, 7]
    assert known.sum(1).tolist() == [4, 4, 4]
    assert max(int(row.nonzero().flatten().diff().max()) for row in known) <= 8


def test_a_corruption_plans_with_frozen_weights(tmp_path):
    save_weights(trained(), tmp_path / "selector.safetensors")
    corruption = make_corruption(*CHOSEN, f"schedule.checkpoint={tmp_path / 'selector.safetensors'}")
    clip = random_clip()
    plan = corruption(clip, "val").plan
    assert torch.equal(plan.mask_at(torch.full((3,), 4)), keyframes(from_clip(trained()), clip))
    weights = list(corruption.schedule.selector.parameters())
    assert all(not weight.requires_grad for weight in weights)
    half = Clip(clip.latents.bfloat16(), clip.keys)
    assert corruption(half, "val").plan.kept_until.shape == (3, 21)


def test_a_run_folder_brings_the_averaged_weights_and_frozen_ones_follow_the_device(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    raw, averaged = (
        {Selector.prefix + name: value for name, value in trained(seed).state_dict().items()} for seed in (0, 1)
    )
    state = {"state_dict": raw | {"validation_error.count": torch.ones(3)}, "ema_state_dict": averaged}
    torch.save(state, tmp_path / "checkpoints" / "last.ckpt")
    schedule = Learned(selector=Selector(**SMALL), checkpoint=str(tmp_path))
    assert torch.equal(schedule.selector(preview()), trained(1)(preview()))
    schedule.selector.follow(torch.device("meta"))
    assert {weight.device.type for weight in schedule.selector.parameters()} == {"meta"}


def test_what_does_not_fit_is_named(tmp_path):
    save_weights(trained(), tmp_path / "selector.safetensors")
    with pytest.raises(BadValue, match=r"expected weights of Selector at this size: features\.0\.weight is"):
        Learned(selector=Selector(4, 2, 12), checkpoint=str(tmp_path / "selector.safetensors"))
    with pytest.raises(BadValue, match=r"checkpoint=.*nowhere: expected a run folder"):
        Learned(checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(BadValue, match="grid=0: expected at least 1"):
        Selector(grid=0)
    with pytest.raises(BadValue, match="content=None: expected clips, because this schedule needs a preview"):
        Learned().plan(torch.zeros(1, 21, dtype=torch.bool), Draws(0, "val", ["a"]))
    with pytest.raises(BadValue, match="channels=16: expected 4, the channels of the clips"):
        make_corruption("schedule=learned", "schedule.checkpoint=null").check([4, 21, 8, 14])
