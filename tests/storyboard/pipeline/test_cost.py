"""A dry run's estimate of time, with a clock that only the timed work moves."""

from types import SimpleNamespace

import pytest
import torch

from interp_refiner.model.sampler import Bridge, MirroredViews, OneView
from interp_refiner.storyboard import Keyframe, VideoSize
from interp_refiner.storyboard.pipeline import cost as cost_module
from interp_refiner.storyboard.pipeline.cost import expected_cost


@pytest.mark.parametrize(("frames", "views"), [(21, OneView()), (31, MirroredViews())])
def test_passes_and_decoding_are_timed_and_multiplied(pipe, monkeypatch, frames, views):
    now = [0.0]
    monkeypatch.setattr(cost_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    estimate, decode = type(pipe).clean_estimate, type(pipe.codec).decode
    seen = []

    def slow_estimate(self, corrupted):
        now[0] += 0.1 * corrupted.x.shape[2]  # seconds a latent frame
        return estimate(self, corrupted)

    def slow_decode(self, latents):
        seen.append(latents.shape[2])
        now[0] += 0.5 * latents.shape[2]
        return decode(self, latents)

    monkeypatch.setattr(type(pipe), "clean_estimate", slow_estimate)
    monkeypatch.setattr(type(pipe.codec), "decode", slow_decode)
    monkeypatch.setattr(pipe, "sampler", Bridge(steps=4, views=views))
    keyframes = [Keyframe(image=torch.rand(3, 16, 24), time=f"{percent}%") for percent in (0, 50, 100)]
    plan = pipe.planner.plan(keyframes, VideoSize(frames))
    found = expected_cost(pipe, plan, keyframes)
    covered = sum(part.length for part in plan.parts)  # by windows, overlaps twice
    assert found.estimates == 4 * views.count * len(plan.parts)
    assert found.refining == pytest.approx(4 * views.count * 0.1 * covered)
    assert found.decoding == pytest.approx(2 * 0.5 * frames)  # the video, and the interpolation beside it
    assert found.seconds == pytest.approx(found.refining + found.decoding)
    assert max(seen[-2:]) < 21  # a few frames tell enough; an interpolator in pixels decodes before that


def test_a_prompt_that_comes_again_costs_no_further_pass(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "sampler", Bridge(steps=4))
    times = (0, 50, 100)
    said = {"other, other": (None, "b", "b"), "other, own": (None, "b", "a"), "another": (None, "b", "c")}
    passes = {}
    for name, prompts in said.items():
        keyframes = [
            Keyframe(image=torch.rand(3, 16, 24), time=f"{percent}%", prompt=prompt)
            for percent, prompt in zip(times, prompts, strict=True)
        ]
        plan = pipe.planner.plan(keyframes, VideoSize(21))
        passes[name] = expected_cost(pipe, plan, keyframes, "a").estimates
    assert passes == {"other, other": 8, "other, own": 8, "another": 12}
