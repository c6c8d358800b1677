"""Training of phase 1: the keyframes in a batch, the content of checkpoints, and its anchors."""

from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from interp_refiner.core import BadValue, weights_digest
from interp_refiner.data import AnchorShards, ShardDataset
from interp_refiner.forward.schedule import Uniform
from interp_refiner.model.backbone import LoRA, Wan
from interp_refiner.model.keyframes import Euler, Preconditioned, Rescaled, Velocity
from interp_refiner.training import KeyframeGenerator, RenoisedKeyframes
from interp_refiner.training.keyframe_generator import by_count, keyframes_of
from interp_refiner.training.optimizer import AdamW
from tests.data.shards_on_disk import write
from tests.factories import make_corruption, random_clip, spec_of
from tests.model.backbone.made import made
from tests.model.backbone.small_wan import SIZE
from tests.training.checkpoint.test_exact_resume import check_exact

METHOD = ("corruption=none", "interpolator=linear", "schedule.counts=[8,5]", "schedule.jitter=1.0")


def generator(flow=Preconditioned, spec=None, *overrides, **wan):
    torch.manual_seed(0)
    spec = spec or spec_of()
    network = made(Wan, spec, num_hypotheses=0, **{**SIZE, **wan})
    corruption = make_corruption(*METHOD, *overrides)
    return KeyframeGenerator(network, flow(spec), AdamW(), Euler(steps=2), corruption)


def test_a_step_takes_the_keyframes_of_one_level_where_every_clip_has_them():
    model, taken = generator(), []
    model.log = lambda *_, **__: None
    model.flow.measure = lambda *_: None
    model._trainer = type("Trainer", (), {"strategy": type("Strategy", (), {"reduce": None})})()
    model.flow.loss = lambda network, of, draws, given: taken.append(of) or torch.zeros(len(of.latents))
    for step in range(12):
        clip = random_clip(batch=4, step=step)
        corrupted = model.corruption(clip, "train")
        model.training_step(corrupted, 0)
        level = model.step_level(corrupted)
        known = corrupted.plan.mask_at(torch.full((4,), level))
        for row in range(4):
            frames = known[row].nonzero().flatten()
            assert torch.equal(taken[-1].positions[row], frames)
            assert torch.equal(taken[-1].latents[row], clip.latents[row][:, frames])
        assert model.seen_shape(corrupted) == taken[-1].latents.shape
    assert {of.positions.shape[1] for of in taken} == {5, 8}
    eight = [of.positions for of in taken if of.positions.shape[1] == 8]
    assert (eight[0][0] != eight[0][1]).any()  # jitter: every clip has its own
    fixed = generator(Preconditioned, None, "corruption.drawn.level=2")
    assert {fixed.step_level(fixed.corruption(random_clip(step=step), "train")) for step in range(8)} == {2}


def test_mixed_levels_are_taken_apart_and_put_back_in_their_order():
    model = generator()
    clip = random_clip(batch=5, level=torch.tensor([1, 2, 1, 2, 2]))
    corrupted = model.corruption(clip, "val")
    assert by_count(corrupted.known) == [(5, [1, 3, 4]), (8, [0, 2])]
    made = model.predict_step(corrupted, 0)
    assert [x.shape[1] for x in made] == [8, 5, 8, 5, 5]
    alone = model.predict_step(model.corruption(clip.select([3]), "val"), 0)
    torch.testing.assert_close(made[3], alone[0], rtol=1e-3, atol=1e-4)
    of = keyframes_of(corrupted, corrupted.known, 8, [0, 2])
    assert torch.equal(of.latents[1], clip.latents[2][:, of.positions[1]])


def test_adapters_of_a_pretrained_network_are_all_that_checkpoints_hold(tmp_path):
    torch.manual_seed(3)
    WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, **SIZE).save_pretrained(tmp_path)
    model = generator(Velocity, pretrained=str(tmp_path), lora=LoRA(rank=2))
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    assert all("lora_" in name for name in checkpoint["state_dict"] if name.startswith("backbone"))
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])


def test_a_killed_run_of_a_generator_repeats_the_uninterrupted_one_bit_for_bit(tmp_path):
    method = ["+experiment=keyframes", "callback.best_checkpoint=null"]
    sizes = ["backbone=wan_tiny", "backbone.size.num_layers=1", "schedule.counts=[6,3]", "optimizer.lr=1e-3"]
    assert check_exact(tmp_path, [(3, "on_train_batch_end")], [*method, *sizes], world=1) == 1


class TestRenoisedKeyframes:
    """Anchors that belong to their clips."""

    @pytest.fixture
    def clips(self, tmp_path):
        write(tmp_path / "set", 5)
        return ShardDataset(tmp_path / "set")

    @staticmethod
    def source(clips, **settings):
        spec = clips.metadata.spec
        network = generator(Preconditioned, spec).source()
        return RenoisedKeyframes(network, Uniform(counts=[3, 2]), Euler(steps=2, guidance=1.0), **settings)

    def test_they_do_not_depend_on_the_batch_and_are_read_back_by_key(self, tmp_path, clips):
        self.source(clips, batch_size=4).write(tmp_path / "anchors", clips)
        shards = AnchorShards(tmp_path / "anchors", None, clips.metadata)
        for number in range(5):
            (alone,) = self.source(clips).propose([clips[number]])
            latents, proposed = torch.zeros(clips.metadata.latent_shape), torch.zeros(5, dtype=torch.bool)
            shards.read_into(alone.key, latents, proposed)
            assert proposed.tolist() == [True, False, True, False, True]
            torch.testing.assert_close(latents[:, proposed], alone.latents, rtol=0.02, atol=0.02)  # bfloat16
        made_by = shards.metadata.made_by
        assert (made_by["lowest"], made_by["highest"], made_by["seed"]) == (0.3, 0.8, 0)
        assert made_by["weights"] == weights_digest(generator(Preconditioned, clips.metadata.spec))

    def test_other_weights_are_other_anchors(self, tmp_path, clips):
        source = self.source(clips)
        source.write(tmp_path / "anchors", clips)
        source.weights = "0" * 16
        with pytest.raises(BadValue, match=r"weights=\w{16} instead of 0{16}"):
            source.write(tmp_path / "anchors", clips)

    def test_less_noise_keeps_more_of_the_clip(self, clips):
        samples = [clips[number] for number in range(5)]
        truth = torch.stack([sample.latents.float() for sample in samples])[:, :, [0, 2, 4]]
        errors = []
        for u in (0.02, 0.5, 1.0):
            anchors = self.source(clips, lowest=u, highest=u).propose(samples)
            errors.append((torch.stack([a.latents for a in anchors]) - truth).square().mean().item())
        assert errors[0] < 0.02 < errors[1] < errors[2]

    @pytest.mark.parametrize(("u", "passes"), [(1.0, 4), (0.8, 2)])
    def test_only_free_keyframes_are_made_in_the_rounds_of_the_sampler(self, clips, u, passes, monkeypatch):
        sampler = Euler(steps=2, guidance=1.0, rounds=2)
        source = RenoisedKeyframes(
            generator(Preconditioned, clips.metadata.spec).source(), Uniform(counts=[3, 2]), sampler, u, u
        )
        told, velocity = [], type(source.keyframes.flow).velocity
        monkeypatch.setattr(
            type(source.keyframes.flow), "velocity", lambda *told_of: told.append(1) or velocity(*told_of)
        )
        source.propose([clips[0]])
        assert len(told) == passes
        assert source.made_by.get("rounds") == (2 if u == 1 else None)

    def test_free_keyframes_hold_nothing_of_the_truth(self, clips):
        source, clip = self.source(clips, lowest=1.0, highest=1.0), clips[0]
        (one,), (other,) = (source.propose([replace(clip, latents=x)]) for x in (clip.latents, -clip.latents))
        assert torch.equal(one.latents, other.latents)

    def test_clips_of_other_statistics_get_the_same_keyframes_in_their_own_units(self, clips):
        clip, spec = clips[0], clips.metadata.spec
        own = replace(spec, latents_mean=[1.0] * spec.channels, latents_std=[2.0] * spec.channels)
        wanted = replace(spec, latents_mean=[0.0] * spec.channels, latents_std=[4.0] * spec.channels)
        source = generator(Preconditioned, own).source()  # z_0 = (4 z - 1) / 2
        settings = (Uniform(counts=[3, 2]), Euler(steps=2, guidance=1.0))
        (found,) = RenoisedKeyframes(Rescaled(source, own, wanted), *settings).propose([clip])
        moved = replace(clip, latents=2 * clip.latents.float() - 0.5)
        (expected,) = RenoisedKeyframes(source, *settings).propose([moved])
        torch.testing.assert_close(2 * found.latents - 0.5, expected.latents, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("times", [(0.0, 0.5), (0.6, 0.4), (0.5, 1.1)])
    def test_times_that_the_flow_does_not_have_are_refused(self, clips, times):
        with pytest.raises(BadValue, match=r"lowest=\["):
            self.source(clips, lowest=times[0], highest=times[1])


def test_clips_without_captions_have_keyframes_too():
    """A data set without prompts trains and samples: there is nothing to guide by."""
    model = generator()
    corrupted = model.corruption(random_clip(batch=2, text=None), "val")
    assert model.predict_step(corrupted, 0)[0].isfinite().all()
