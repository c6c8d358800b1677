"""Laws of every backbone: it sees every condition, never the truth, keeps samples apart, starts at 0 and learns."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from interp_refiner.config.check import locate_target
from interp_refiner.core import Corrupted, per_frame
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import LTX, Backbone, Factorised, Global, PerFrame, Trajectory, Wan
from tests.factories import corrupted_clip
from tests.helpers import build, group_config, group_members
from tests.model.backbone import small_trajectory
from tests.model.backbone.small_factorised import small_factorised
from tests.model.backbone.small_ltx import small_ltx
from tests.model.backbone.small_wan import small_wan


@dataclass
class Kind:
    """A backbone with clips for it and with what it sees beyond what every backbone does.

    Attributes:
        make: the network, all of its parameters random, so that paths that start at zero are open.
        clips: corrupted clips, so many of them, and their corruption.
        head: the weight of the last layer.
        own: changes of a corrupted clip that must reach the output, by name.
    """

    make: Callable[..., Backbone]
    clips: Callable[[int], tuple[Corrupted, Corruption]]
    head: Callable[[Backbone], torch.Tensor]
    own: Callable[[Corrupted], dict[str, dict[str, object]]]


def with_text(corrupted):
    return {"text": {"clip": replace(corrupted.clip, text=corrupted.clip.text + 1)}}


def with_maps(corrupted):
    """Walls and distances of another maze, and start and goal in each other's place."""

    def changed(order, flipped):
        maps = corrupted.clip.context[:, order].clone()
        maps[:, flipped] = maps[:, flipped].flip(2)
        return {"clip": replace(corrupted.clip, context=maps)}

    same = [0, 1, 2, 3]
    return {"walls": changed(same, [0]), "distance": changed(same, [1]), "ends": changed([0, 1, 3, 2], [])}


KINDS = {
    Wan: Kind(
        small_wan, lambda batch: corrupted_clip(batch=batch)[:2], lambda model: model.wan.proj_out.weight, with_text
    ),
    LTX: Kind(
        small_ltx, lambda batch: corrupted_clip(batch=batch)[:2], lambda model: model.ltx.proj_out.weight, with_text
    ),
    Factorised: Kind(
        small_factorised, lambda batch: corrupted_clip(batch=batch)[:2], lambda model: model.head.weight, with_text
    ),
    Trajectory: Kind(
        lambda **overrides: small_trajectory.perturbed(small_trajectory.trajectory(**overrides)),
        lambda batch: small_trajectory.path(batch=batch)[:2],
        lambda model: model.head.weight,
        with_maps,
    ),
}
of_every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=[backbone.__name__ for backbone in KINDS])
with_channels = pytest.mark.parametrize("channels", ["masked", "bracketing"])


def test_every_member_of_the_group_is_one_of_those():
    members = {name: group_config("backbone", name)["_target_"] for name in group_members("backbone")}
    assert {locate_target(name, target) for name, target in members.items()} == set(KINDS)


@of_every_kind
@with_channels
@pytest.mark.parametrize("timestep", [Global(), PerFrame()], ids=["global", "per_frame"])
def test_missing_frames_of_values_and_truth_are_never_seen(kind, channels, timestep):
    corrupted, _ = kind.clips(3)
    model = kind.make(timestep=timestep, keyframe_channels=build("backbone/keyframe_channels", channels))
    hidden = torch.where(per_frame(corrupted.missing, corrupted.values), torch.nan, corrupted.values)
    blind = replace(corrupted, values=hidden, clip=replace(corrupted.clip, latents=corrupted.clean * torch.nan))
    assert torch.equal(model(corrupted), model(blind))


@of_every_kind
@with_channels
def test_every_condition_reaches_the_output(kind, channels):
    corrupted, _ = kind.clips(3)
    model = kind.make(keyframe_channels=build("backbone/keyframe_channels", channels))
    output = model(corrupted)
    flipped = corrupted.known.clone()
    flipped[:, 10] = ~flipped[:, 10]
    changes = {
        "known": {"known": flipped},
        "values": {"values": corrupted.values + 1},
        "interpolation": {"interpolation": corrupted.interpolation + 1},
        "confidence": {"confidence": corrupted.confidence * 0.5},
        "level": {"level": 5 - corrupted.level},
        "tau": {"tau": corrupted.tau * 0.5},
        "noise level": {"noise_profile": corrupted.noise_profile * 0.5},
        **kind.own(corrupted),
    }
    for name, change in changes.items():
        assert not torch.allclose(output, model(replace(corrupted, **change)), atol=1e-5), name


@of_every_kind
def test_samples_of_a_batch_do_not_mix(kind):
    corrupted, corruption = kind.clips(2)
    model = kind.make()
    alone = corruption(corrupted.clip.select([1]), "val")
    torch.testing.assert_close(model(corrupted)[1:], model(alone), atol=1e-4, rtol=1e-4)


@of_every_kind
def test_a_zero_head_says_nothing_and_learns(kind):
    corrupted, _ = kind.clips(3)
    model = kind.make()
    model.zero_output()
    output = model(corrupted)
    assert torch.equal(output, torch.zeros_like(corrupted.x))
    output.sub(corrupted.clean).square().mean().backward()
    assert kind.head(model).grad.abs().max() > 0
