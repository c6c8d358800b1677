"""Keyframes from a prompt: their positions, which ones are kept, and how a long video continues."""

import copy
import warnings
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue
from interp_refiner.forward.scheduled_sampling import Noisy
from interp_refiner.storyboard import Keyframe, Phase1
from interp_refiner.storyboard.conditioning.phase1 import check_fit, spread
from interp_refiner.storyboard.file.timeline import Grid
from tests.storyboard.pipeline.test_pipeline import PROMPT, picture, same_bits
from tests.storyboard.sources import Told


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def full(pipe, told):
    """The pipeline with a keyframe source, that of a refiner trained on true ones."""
    made = copy.copy(pipe)
    made.phase1 = Phase1(told, pipe.config.spec)
    return made


def correcting(pipeline):
    """The same for a refiner whose keyframes were replaced by proposals in training."""
    made = copy.copy(pipeline)
    made.corruption = copy.copy(pipeline.corruption)
    made.corruption.scheduled_sampling = Noisy()
    return made


def ends():
    return [Keyframe(image=picture(0), time=0), Keyframe(image=picture(1), time="100%")]


def test_a_prompt_alone_becomes_a_video(full, told):
    made = full(PROMPT)
    (request,) = told.requests
    assert request.positions.tolist() == [[0, 7, 13, 20]]  # the sparsest level of the refiner has 4 of 21
    assert request.num_frames == 21
    assert not request.given.any()
    torch.testing.assert_close(request.text, full.embed([PROMPT]))
    assert len(made.frames) == 21
    assert made.known[0].nonzero().flatten().tolist() == [0, 7, 13, 20]
    assert not made.given.any()
    assert [key.generated for key in made.keyframes] == [True] * 4
    assert made.values[:, :, [0, 7, 13, 20]].abs().min() > 0
    assert same_bits(made.interpolation[:, :, 7], made.values[:, :, 7])


def test_a_storyboard_gets_those_that_it_lacks(full, told):
    made = full(PROMPT, ends(), keyframes_at=[0, "50%", 20, 10])
    (request,) = told.requests
    assert request.positions.tolist() == [[0, 10, 20]]
    assert request.given.tolist() == [[True, False, True]]
    for frame, seed in ((0, 0), (20, 1)):
        encoded = full.codec.encode_still(picture(seed)[None], frame)
        assert same_bits(request.latents[:, :, frame // 10], encoded)
        assert same_bits(made.latents[:, :, frame], encoded)
    assert made.given[0].nonzero().flatten().tolist() == [0, 20]
    assert len(made.keyframes) == 3
    assert not full(PROMPT, ends()).known[0, 10]  # nobody asked


@pytest.mark.parametrize("steps", [1, 3])
def test_a_refiner_corrects_proposals_if_it_has_learned_to(full, steps):
    at = [0, "50%", "100%"]
    kept, changed = (p(PROMPT, keyframes_at=at, num_inference_steps=steps) for p in (full, correcting(full)))
    for frame in (0, 10, 20):
        assert same_bits(kept.latents[:, :, frame], kept.values[:, :, frame])
        assert not torch.allclose(changed.latents[:, :, frame], changed.values[:, :, frame])
    told = [Keyframe(generated=True, time=time, strength=1.0) for time in at]
    again = correcting(full)(PROMPT, told, num_inference_steps=steps)
    assert same_bits(again.latents[:, :, 10], again.values[:, :, 10])


def test_a_window_goes_on_from_the_last_keyframes_of_the_one_before(full, told):
    made = full(PROMPT, num_frames=41)
    assert len(made.plan.parts) == len(told.requests) > 1
    before = set()
    for request, part in zip(told.requests, made.plan.parts, strict=True):
        at = request.positions[0] + part.start
        assert request.num_frames == part.length
        assert set(at[request.given[0]].tolist()) == {slot for slot in before if part.start <= slot < part.stop}
        assert same_bits(request.latents[:, :, request.given[0]], made.values[:, :, at[request.given[0]]])
        assert bool(request.given[0, 0]) == bool(before)
        before |= set(at.tolist())
    new = [made.values[:, :, request.positions[0] + part.start][:, :, ~request.given[0]]
           for request, part in zip(told.requests, made.plan.parts, strict=True)]  # fmt: skip
    assert not torch.allclose(new[0][:, :, :1], new[1][:, :, :1])  # every window has noise of its own


def test_every_keyframe_follows_the_prompt_of_its_time(full, told):
    other = "bright ring moving up"
    full(PROMPT, [Keyframe(image=picture(0), time=0), Keyframe(image=picture(1), time=10, prompt=other)],
         keyframes_at=[5, 15, 20])  # fmt: skip
    first, second = told.requests
    torch.testing.assert_close(torch.cat([first.text, second.text]), full.embed([PROMPT, other]))
    assert first.positions.tolist() == [[0, 5, 10]]
    assert second.positions.tolist() == [[0, 5, 10, 15, 20]]
    assert second.given.tolist() == [[True, True, True, False, False]]


def test_the_seed_and_the_negative_prompt_are_those_of_the_video(full):
    one, same, other, away = (
        full(PROMPT, generator=seed, negative_prompt=negative).values
        for seed, negative in ((0, None), (0, ""), (1, None), (0, "dim circle"))
    )
    assert same_bits(one, same)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one, away)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.one_of(st.none(), st.integers(1, 8)))
def test_spread_keyframes_are_as_dense_as_in_a_clip_of_the_model(pipe, frames, count):
    planner = pipe.planner
    slots = spread(planner, Grid.of(pipe.codec, frames), count)
    assert slots[0] == 0
    assert slots[-1] == frames - 1
    assert slots == sorted(set(slots))
    wanted = max(2, count or 4)
    if frames == 21:
        assert len(slots) == wanted
    gap = max((b - a for a, b in pairwise(slots)), default=0)
    assert gap <= -(-20 // (wanted - 1))  # no window of the refiner's length lacks a keyframe


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompt": None}, "prompt=None: expected what the video shows, or keyframes"),
        ({"keyframes_at": [0, "120%"]}, r"keyframes_at\[1\]=120%: expected 0% to 100%"),
        ({"keyframes_at": [0, 21]}, r"keyframes_at\[1\]=21: expected a frame from 0 to 20"),
        ({"keyframes_at": ["late"]}, r"keyframes_at\[0\]=late: expected a frame \(12\), seconds"),
        ({"keyframes_at": []}, r"keyframes=\[\]: expected at least one keyframe"),
        (
            {"keyframes_at": [0, 60], "num_frames": 61},
            "keyframes=a gap of 60 after latent frame 0: expected keyframes at most 20 latent frames apart",
        ),
    ],
)
def test_mistakes_are_named(full, told, settings, said):
    with pytest.raises(BadValue, match=said):
        full(**{"prompt": PROMPT, **settings})
    assert not told.requests


def test_nothing_is_generated_without_a_source(pipe):
    with pytest.raises(BadValue, match=r"keyframes=\[\]: expected at least one keyframe"):
        pipe(PROMPT)
    for asked in ({"keyframes_at": [0]}, {"keyframes": [Keyframe(generated=True, time=0)]}):
        with pytest.raises(BadValue, match=r"expected (null|false): there is no keyframe source") as refused:
            pipe(PROMPT, **asked)
        assert refused.value.name in ("keyframes_at", "keyframes[0].generated")


@pytest.mark.parametrize(("guided", "keyframes", "said"), [(True, (), 0), (True, ends(), 1), (False, (), 1)])
def test_a_negative_prompt_counts_for_keyframes_generated_with_guidance(full, told, guided, keyframes, said):
    told.guided = guided
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        full(PROMPT, keyframes, num_inference_steps=1, negative_prompt="dim circle")
    assert sum("no effect without guidance; set guidance_scale" in str(w.message) for w in found) == said


def test_a_source_that_keeps_nothing_is_not_asked_to(full):
    full.phase1 = Phase1(source := Told(takes_given=False), full.config.spec)
    with pytest.raises(BadValue, match=r"keyframes=0, 100%: expected only generated ones"):
        full(PROMPT, ends(), keyframes_at=["50%"])
    with pytest.raises(BadValue, match=r"frames=41: expected at most 21 latent frames"):
        full(PROMPT, num_frames=41)
    assert not source.requests
    full(PROMPT, ends())
    assert full(PROMPT).known.any()


def test_a_generated_keyframe_is_a_proposal():
    with pytest.raises(BadValue, match="hard=True: expected false for a generated keyframe"):
        Keyframe(generated=True, time=0, hard=True)
    with pytest.raises(BadValue, match="keyframe=image and generated: expected exactly one of image, video, latents"):
        Keyframe(generated=True, image=picture(0))
    assert not Keyframe(generated=True).given


def test_a_source_of_other_clips_is_refused_and_other_statistics_are_not(pipe):
    spec = pipe.config.spec
    check_fit(spec, spec)
    for change, said in (
        ({"latent_shape": (16, 17, 4, 6)}, r"keyframes=\[16, 17, 4, 6\]: expected a source of clips \[16, 21, 4, 6\]"),
        ({"text_shape": (3, 32)}, r"keyframes=caption \[3, 32\]: expected a source that reads prompts.* caption \["),
        ({"text": {"name": "umt5"}}, "keyframes=umt5 .*: expected a source that reads prompts of"),
        ({"codec": {**spec.codec, "name": "wan_vae"}}, "keyframes=name=wan_vae: expected .*name=patch_dct"),
    ):
        with pytest.raises(BadValue, match=said):
            Phase1(Told(), replace(spec, **change)).of_clips(spec)
    twice = replace(spec, latents_std=[2 * value for value in spec.latents_std])
    full = copy.copy(pipe)
    own, other = (Phase1(Told(), clips).of_clips(spec) for clips in (spec, twice))
    full.phase1 = own
    values = full(PROMPT).values
    full.phase1 = other
    torch.testing.assert_close(full(PROMPT).values, 2 * values, atol=1e-5, rtol=1e-4)
