"""The pipeline: what it keeps, what it may change, and that saving and loading does not change it."""

import warnings
from contextlib import nullcontext

import pytest
import torch
from diffusers import WanTransformer3DModel

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Wan
from interp_refiner.model.sampler import Bridge, Consistency, Hierarchical, MirroredViews, OneJump, self_ensemble
from interp_refiner.storyboard import Keyframe, RefinerPipeline
from interp_refiner.storyboard.conditioning.prompts import prompt_segments
from interp_refiner.storyboard.pipeline.arguments import Request
from interp_refiner.storyboard.saved.components import Components
from tests.helpers import build, group_members
from tests.model.backbone.made import made

PROMPT = "dark square moving left"
MIRRORED, VIEWS = "interp_refiner.model.sampler.OneJump", {"_target_": "interp_refiner.model.sampler.MirroredViews"}


def picture(seed: int):
    return torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(seed))


def board(**middle):
    return [
        Keyframe(image=picture(0), time=0),
        Keyframe(image=picture(1), time="50%", **middle),
        Keyframe(image=picture(2), time="100%"),
    ]


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.parametrize("steps", [None, 1, 3])
def test_hard_keyframes_are_kept_bit_for_bit(pipe, steps):
    made = pipe(PROMPT, board(), num_inference_steps=steps, output_type="pt")
    assert made.frames.shape == (3, 21, 16, 24)
    for frame, seed in ((0, 0), (10, 1), (20, 2)):
        encoded = pipe.codec.encode_still(picture(seed)[None], frame)[0]
        assert same_bits(made.latents[0, :, frame], encoded)
    assert not torch.allclose(made.latents, made.interpolation)


def objective_and_network(name, spec, num_levels):
    """Random weights, so that no path starts at zero."""
    objective = build("objective", name, spec=spec, num_levels=num_levels)
    size = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 64, "freq_dim": 32}
    torch.manual_seed(0)
    backbone = made(Wan, spec, **size, outputs=objective.out_channels(spec.channels, 1))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return objective, backbone


@pytest.mark.parametrize("precision", ["float32", "bf16 autocast", "fp16 autocast", "bf16 weights"])
@pytest.mark.parametrize("name", group_members("objective"))
def test_hard_keyframes_are_kept_in_every_precision(pipe, name, precision):
    half = {"bf16 autocast": torch.bfloat16, "fp16 autocast": torch.float16}.get(precision)
    objective, backbone = objective_and_network(name, pipe.config.spec, pipe.levels.sparsest)
    jump = OneJump() if objective.fully_corrupted_only else Consistency(2) if objective.distilled else Bridge(2)
    sampler = Hierarchical() if objective.estimates_finer else jump
    parts = Components(backbone, objective, sampler, pipe.corruption, pipe.codec, pipe.text)
    made = RefinerPipeline(parts, pipe.config)
    made.set_progress_bar_config(disable=True)
    if precision == "bf16 weights":
        made.backbone.to(torch.bfloat16)
        made.objective.to(torch.bfloat16)
    with torch.autocast("cpu", half) if half else nullcontext():
        for steps in (None,) if objective.estimates_finer else (None, 1):
            video = made(PROMPT, board(), num_inference_steps=steps, output_type="pt")
            assert video.latents.isfinite().all()
            for frame, seed in ((0, 0), (10, 1), (20, 2)):
                assert same_bits(video.latents[0, :, frame], pipe.codec.encode_still(picture(seed)[None], frame)[0])
            assert not torch.equal(video.latents, video.interpolation)


def test_strength_weighs_the_proposal_in_every_estimate(pipe):
    free, half, full = (
        pipe(PROMPT, board(strength=w), num_inference_steps=1).latents[:, :, 10] for w in (0.0, 0.5, 1.0)
    )
    value = pipe.codec.encode_still(picture(1)[None], 10)
    assert not torch.allclose(free, value)
    torch.testing.assert_close(half, (free + value) / 2)
    assert torch.equal(full, value)


def test_the_seed_is_the_video(pipe):
    samples = [pipe(PROMPT, board(), num_inference_steps=2, generator=g).latents for g in (0, 0, 1)]
    assert same_bits(samples[0], samples[1])
    assert not torch.allclose(samples[0], samples[2])
    generator = torch.Generator().manual_seed(1)
    assert same_bits(pipe(PROMPT, board(), num_inference_steps=2, generator=generator).latents, samples[2])


def test_prompts_count_where_they_stand(pipe):
    segments = board(prompt="bright ring moving up")
    mixed = pipe(PROMPT, segments, num_inference_steps=1).latents
    for prompt, frames in ((PROMPT, slice(0, 10)), ("bright ring moving up", slice(10, 21))):
        alone = pipe(prompt, board(), num_inference_steps=1).latents
        assert torch.equal(mixed[:, :, frames], alone[:, :, frames])
    assert not torch.allclose(mixed[:, :, 11:20], pipe(PROMPT, board(), num_inference_steps=1).latents[:, :, 11:20])


def test_prompt_segments():
    prompts, of_frame = prompt_segments("a", [(3, "b"), (1, "c"), (5, "a")], 7)
    assert [prompts[i] for i in of_frame] == ["a", "c", "c", "b", "b", "a", "a"]
    assert sorted(prompts) == ["a", "b", "c"]


def test_guidance_leads_away_from_the_negative_prompt(pipe):
    def one(scale, prompt=PROMPT, negative="dim circle"):
        return pipe(prompt, board(), num_inference_steps=1, guidance_scale=scale, negative_prompt=negative).latents

    plain, away = one(1.0), one(1.0, prompt="dim circle")
    torch.testing.assert_close(one(2.5), away + 2.5 * (plain - away), atol=1e-4, rtol=1e-4)


def test_mirrored_views_are_averaged_in_every_window(pipe, tmp_path):
    mirrored = pipe.with_component("sampler", OneJump(views=MirroredViews()), {"_target_": MIRRORED, "views": VIEWS})
    made = mirrored("", board())
    start = pipe.draft(Request("", board())).corrupted
    start.clip.text = pipe.embed([""])
    expected = start.keep_given(self_ensemble(pipe.clean_estimate, start, pipe.corruption.reflections))
    torch.testing.assert_close(made.latents, expected)
    assert not torch.allclose(made.latents, pipe("", board(), num_inference_steps=1).latents)
    torch.testing.assert_close(mirrored("", board(), num_inference_steps=1).latents, expected)  # keeps the views
    again = RefinerPipeline.from_pretrained(mirrored.save_pretrained(tmp_path / "saved"))
    again.set_progress_bar_config(disable=True)
    torch.testing.assert_close(again("", board()).latents, expected)
    half = pipe.with_component("sampler", OneJump(strength=0.5), {"_target_": MIRRORED, "strength": 0.5})
    torch.testing.assert_close(half("", board(), num_inference_steps=1).latents, half("", board()).latents)
    assert "| sampler | OneJump, strength 0.5 |" in (half.save_pretrained(tmp_path / "half") / "README.md").read_text()
    assert "| sampler | OneJump, MirroredViews |" in (tmp_path / "saved/README.md").read_text()
    with pytest.raises(BadValue, match=r"sampler\.views=mirrored: expected `one`: guidance needs a prompt"):
        mirrored(PROMPT, board(), guidance_scale=2.0)


def test_mirrored_views_of_a_long_video_keep_its_keyframes_and_have_no_prompt(pipe):
    """A window's own view has the prompt, a quarter of the average."""
    mirrored = pipe.with_component("sampler", OneJump(views=MirroredViews()), {})
    told, silent = (mirrored(prompt, board(), num_frames=31) for prompt in (PROMPT, ""))
    alone = [pipe(prompt, board(), num_frames=31, num_inference_steps=1).latents for prompt in (PROMPT, "")]
    torch.testing.assert_close(told.latents - silent.latents, (alone[0] - alone[1]) / 4, atol=1e-5, rtol=1e-4)
    given = told.given[0].nonzero().flatten()
    assert same_bits(told.latents[:, :, given], told.values[:, :, given])


def test_a_negative_prompt_without_guidance_gets_a_warning(pipe):
    with pytest.warns(UserWarning, match="^negative_prompt has no effect without guidance; set guidance_scale"):
        pipe(PROMPT, board(), num_inference_steps=1, negative_prompt="dim circle")
    with pytest.warns(UserWarning, match="no effect"):
        pipe(PROMPT, board(), num_inference_steps=1, negative_prompt_embeds=pipe.embed(["dim circle"])[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe(PROMPT, board(), num_inference_steps=1, negative_prompt="")
        pipe(PROMPT, board(), num_inference_steps=1, negative_prompt="dim circle", guidance_scale=2.0)


def test_the_callback_sees_every_step_and_may_replace_the_estimate(pipe):
    seen = []

    def callback(pipeline, step, tau, tensors):
        seen.append((step, tau))
        return {"clean_estimate": torch.zeros_like(tensors["clean_estimate"])}

    made = pipe(PROMPT, board(), num_inference_steps=4, callback_on_step_end=callback)
    assert seen == [(0, 1.0), (1, 0.75), (2, 0.5), (3, 0.25)]
    assert not made.latents[:, :, 1:10].any()
    assert made.latents[:, :, 10].any()


def test_output_types(pipe):
    frames = {kind: pipe(PROMPT, board(), output_type=kind).frames for kind in ("pil", "np", "pt", "latent")}
    assert (len(frames["pil"]), frames["pil"][0].size) == (21, (24, 16))
    assert torch.equal(torch.from_numpy(frames["np"]), frames["pt"].permute(1, 2, 3, 0))
    torch.testing.assert_close(pipe.codec.decode(frames["latent"])[0], frames["pt"])


def test_longer_and_shorter_than_the_model(pipe):
    for frames, parts in ((31, 2), (11, 1)):
        keyframes = [Keyframe(image=picture(n), time=t) for n, t in enumerate(range(0, frames, 5))]
        made = pipe(PROMPT, keyframes, num_frames=frames, num_inference_steps=2)
        assert len(made.frames) == frames
        assert len(made.plan.parts) == parts
        assert same_bits(made.latents[:, :, ::5], made.values[:, :, ::5])
        assert len(made.disagreement) == parts - 1


def test_keyframes_as_latents(pipe):
    latents = torch.randn(16, 2, 4, 6, generator=torch.Generator().manual_seed(5))
    made = pipe(PROMPT, [Keyframe(latents=latents, time=4), Keyframe(image=picture(0), time=20)])
    assert same_bits(made.latents[0, :, 4:6], latents)
    assert "no keyframe in the first latent frame" in made.plan.notes[-1]


def test_the_folder_gives_the_same_video_bit_for_bit(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    again = RefinerPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    for steps in (None, 3):
        videos = [p(PROMPT, board(strength=0.4), num_inference_steps=steps).latents for p in (pipe, again)]
        assert same_bits(*videos)
    transformer = WanTransformer3DModel.from_pretrained(tmp_path / "saved" / "transformer")
    for name, weight in transformer.state_dict().items():
        assert torch.equal(weight, pipe.backbone.wan.state_dict()[name]), name
    card = (tmp_path / "saved" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "21 latent frames of 16 x 4 x 6" in card


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keyframes": []}, r"keyframes=\[\]: expected at least one keyframe"),
        ({"width": 20}, r"width=20: expected a multiple of 8 \(codec 4 x patch 2\), such as 16 or 24"),
        ({"height": 4}, r"height=4: expected a multiple of 8"),
        ({"num_inference_steps": 0}, "num_inference_steps=0: expected a whole number >= 1"),
        ({"num_frames": 20}, r"keyframes\[1\].*"),
    ],
)
def test_mistakes_are_named(pipe, settings, said):
    arguments = {"keyframes": board(), **settings}
    if "num_frames" in settings:
        arguments["keyframes"] = [Keyframe(image=picture(0), time=0), Keyframe(image=picture(1), time=20)]
    with pytest.raises(BadValue, match=said):
        pipe(PROMPT, output_type=arguments.pop("output_type", "latent"), **arguments)


def test_prompts_need_an_encoder(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "text", None)
    assert pipe("", board(), output_type="latent").latents.isfinite().all()
    with pytest.raises(BadValue, match=f"prompt={PROMPT}: expected no prompt"):
        pipe(PROMPT, board(), output_type="latent")


def test_embeddings_stand_in_for_prompts(pipe, monkeypatch):
    def one(prompt=None, negative=None, **embeddings):
        settings = {"num_inference_steps": 1, "guidance_scale": 3.0}
        return pipe(
            prompt, board(prompt="bright ring moving up"), negative_prompt=negative, **settings, **embeddings
        ).latents

    own, negative = pipe.embed([PROMPT, "dim circle"])
    worded = one(PROMPT, "dim circle")
    assert same_bits(one(prompt_embeds=own, negative_prompt_embeds=negative[None]), worded)
    assert not torch.allclose(one(negative="dim circle"), worded)
    assert same_bits(one(), one("", ""))
    monkeypatch.setattr(pipe, "text", None)
    alone = pipe(keyframes=board(), num_inference_steps=1, prompt_embeds=own).latents
    monkeypatch.undo()
    assert same_bits(alone, pipe(PROMPT, board(), num_inference_steps=1).latents)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"height": -32}, "height=-32: expected a multiple of 8"),
        ({"width": 0}, "width=0: expected a multiple of 8"),
        ({"fps": 0.0}, "fps=0.0: expected a positive number"),
        ({"fps": float("nan")}, "fps=nan: expected a positive number"),
        ({"num_frames": -3}, "^num_frames=-3: expected a whole number >= 1, or None for that of the model's clips"),
        (
            {"num_inference_steps": 0},
            "^num_inference_steps=0: expected a whole number >= 1, or None for the model's own",
        ),
        ({"num_inference_steps": True}, "^num_inference_steps=True: expected a whole number"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan: expected a number >= 0"),
        ({"prompt": "a", "prompt_embeds": torch.zeros(16, 32)}, "prompt_embeds=.*: expected prompt or prompt_embeds"),
        (
            {"negative_prompt_embeds": torch.zeros(2, 16, 32)},
            r"negative_prompt_embeds=\[2, 16, 32\]: expected \[16, 32\]",
        ),
    ],
)
def test_bad_arguments_are_one_line(pipe, settings, said):
    with pytest.raises(BadValue, match=said) as error:
        pipe(keyframes=board(), **settings)
    assert "\n" not in str(error.value)


def test_a_length_that_the_codec_cannot_code_has_the_name_of_the_argument(pipe, monkeypatch):
    monkeypatch.setattr(pipe.codec, "temporal_factor", 4)
    with pytest.raises(BadValue, match=r"^num_frames=7: expected a multiple of 4 frames, such as 4 or 8"):
        pipe(keyframes=board(), num_frames=7)


def test_no_generator_is_another_video_every_time(pipe):
    one, two = (pipe(PROMPT, board(), num_inference_steps=2, generator=None).latents for _ in range(2))
    assert not torch.allclose(one, two)


def test_pictures_as_arrays(pipe):
    pixels = [picture(seed).permute(1, 2, 0).numpy() for seed in range(3)]
    keyframes = [Keyframe(image=array, time=time) for array, time in zip(pixels, (0, 10, 20), strict=True)]
    assert same_bits(pipe(PROMPT, keyframes).latents, pipe(PROMPT, board()).latents)
