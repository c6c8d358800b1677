"""A text-to-video pipeline of diffusers as a keyframe source, with tiny random weights."""

import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from safetensors.torch import load_file, save_file

from interp_refiner.core import BadValue, ClipSpec, Draws
from interp_refiner.model.keyframes import KeyframeRequest, Rescaled
from tests.helpers import build

pytest.importorskip("transformers")
SIZES = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 32, "freq_dim": 16}
SPEC = ClipSpec((16, 5, 4, 6), (7, 24))
STATISTICS = {"latents_mean": [0.1 * n for n in range(16)], "latents_std": [1.0 + 0.1 * n for n in range(16)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A WanPipeline's folder without the parts that are not read."""
    root = tmp_path_factory.mktemp("t2v")
    torch.manual_seed(0)
    WanTransformer3DModel(in_channels=16, out_channels=16, text_dim=24, **SIZES).save_pretrained(root / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(root / "scheduler")
    (root / "vae").mkdir()
    (root / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan", **STATISTICS}))
    index = {"_class_name": "WanPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
    index |= {"transformer": ["diffusers", "WanTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"]}
    index |= {"text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"]}
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def source(folder, *overrides, spec=SPEC):
    name = "keyframe_source"
    chosen = [f"{name}.folder={folder}", f"{name}.steps=3", f"{name}.precision=float32"]
    return build(name, "wan_t2v", *chosen, *(f"{name}.{override}" for override in overrides), spec=spec)


def request(positions=((0, 2, 4), (0, 1, 4)), given=False, **changes):
    generator = torch.Generator().manual_seed(1)
    at = torch.tensor(positions)
    latents = torch.randn(len(at), 16, at.shape[1], 4, 6, generator=generator)
    text = torch.randn(len(at), 7, 24, generator=generator)
    return KeyframeRequest(at, 5, latents, torch.full(at.shape, given), **{"text": text, **changes})


def draws(*keys):
    return Draws(0, "test", keys)


def by_hand(made, asked, row, guidance):
    """The scheduler's own Euler steps on the velocity that guidance makes, from the noise of the clip's own key."""
    noise = draws("ab"[row]).normal("keyframes", torch.empty(1, 16, 5, 4, 6))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(3)
    latents, text = noise, asked.text[row : row + 1]
    for t in scheduler.timesteps:
        model = made.pipeline.transformer
        with torch.no_grad():
            cond, uncond = (model(latents, t.expand(1), words).sample for words in (text, torch.zeros_like(text)))
        latents = scheduler.step(uncond + guidance * (cond - uncond), t, latents).prev_sample
    return latents[:, :, asked.positions[row]]


def test_it_keeps_frames_of_whole_clips_that_the_scheduler_samples(folder):
    asked, made = request(), source(folder)
    keyframes = made(asked, draws("a", "b"))
    for row in range(2):
        torch.testing.assert_close(keyframes[row : row + 1], by_hand(made, asked, row, 5.0), atol=1e-4, rtol=1e-4)
    assert made.evaluations(5) == 6
    assert source(folder, "guidance=1.0").evaluations(5) == 3
    assert made.of_steps(1).evaluations(5) == 2
    assert made.steps == 3


def test_a_clip_depends_on_its_own_key_alone(folder):
    made, asked = source(folder, "guidance=1.0"), request()
    both, swapped = made(asked, draws("a", "b")), made(asked, draws("b", "a"))
    alone = made(request(positions=((0, 2, 4),), text=asked.text[:1]), draws("a"))
    assert torch.equal(both[:1], alone)
    assert not torch.allclose(both[:1], swapped[:1])


def test_the_negative_prompt_counts_under_guidance_only(folder):
    negative = torch.ones(2, 7, 24)
    for guidance, same in (("1.0", True), ("5.0", False)):
        made = source(folder, f"guidance={guidance}")
        found = [made(request(negative=words), draws("a", "b")) for words in (None, negative)]
        assert torch.equal(*found) == same


def test_what_it_cannot_keep_is_refused_by_name(folder):
    with pytest.raises(BadValue, match=r"keyframes=\[0, 2, 4, 0, 1, 4\]: expected no given keyframes, because wan_t2v"):
        source(folder)(request(given=True), draws("a", "b"))
    with pytest.raises(BadValue, match="text=None: expected prompt embeddings"):
        source(folder)(request(text=None), draws("a", "b"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": ClipSpec((16, 5, 4, 6), (7, 24), text={"name": "caption"})}, "prompts of umt5.*these have caption"),
        ({"spec": ClipSpec((16, 5, 4, 6))}, "prompts of umt5.*these have no prompts"),
        ({"spec": ClipSpec((4, 5, 4, 6), (7, 24))}, "in_channels=4, which the data has; this model has 16"),
        ({"steps": 0}, "steps=0: expected a number of steps >= 1"),
        ({"guidance": -1.0}, "guidance=-1.0: expected a number >= 0"),
    ],
)
def test_clips_and_settings_that_do_not_fit_are_refused(folder, change, said):
    spec = change.pop("spec", SPEC)
    with pytest.raises(BadValue, match=said):
        source(folder, *(f"{name}={value}" for name, value in change.items()), spec=spec)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no folder", "folder=.*: expected the folder of a WanPipeline"),
        ("another pipeline", "this is WanImageToVideoPipeline"),
        ("two transformers", "with two transformers"),
        ("missing", r"blocks\.0\.attn1\.norm_k\.weight is missing"),
        ("foreign", "zzz is unknown"),
    ],
)
def test_a_folder_that_is_no_whole_pipeline_is_refused(folder, tmp_path, change, said):
    root = tmp_path / "t2v"
    root.mkdir()
    for part in ("scheduler", "vae"):
        (root / part).symlink_to(folder / part)
    index = json.loads((folder / "model_index.json").read_text())
    if change == "another pipeline":
        index["_class_name"] = "WanImageToVideoPipeline"
    if change == "two transformers":
        index["transformer_2"] = index["transformer"]
    if change != "no folder":
        (root / "model_index.json").write_text(json.dumps(index))
    (root / "transformer").mkdir()
    (root / "transformer" / "config.json").write_bytes((folder / "transformer" / "config.json").read_bytes())
    file = "diffusion_pytorch_model.safetensors"
    weights = load_file(folder / "transformer" / file)
    if change == "missing":
        del weights["blocks.0.attn1.norm_k.weight"]
    if change == "foreign":
        weights["zzz"] = torch.ones(1)
    save_file(weights, root / "transformer" / file)
    with pytest.raises(BadValue, match=said):
        source(root)


def test_other_statistics_are_the_same_raw_latents(folder):
    made = source(folder)
    assert made.spec.latents_std == STATISTICS["latents_std"]
    fitted = Rescaled.between(made, made.spec, SPEC)  # whose clips declare none: 0 and 1
    own, other = made(request(), draws("a", "b")), fitted(request(), draws("a", "b"))
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in STATISTICS.values())
    torch.testing.assert_close(other, own * std + mean)
    assert fitted.evaluations(5) == 6
    assert fitted.of_steps(1).evaluations(5) == 2
    assert Rescaled.between(made, made.spec, made.spec) is made
