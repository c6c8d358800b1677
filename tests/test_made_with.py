"""A run's prompt encoder and codec must be those that its data set was made with."""

from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner.config import build
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.data.text import CaptionEncoder
from tests.helpers import group_config


def encoder_of(spec: ClipSpec, text: str, **values):
    return build(OmegaConf.create({"text": {**group_config("text", text), **values}}).text, spec=spec)


def declared(**text) -> ClipSpec:
    return ClipSpec(latent_shape=(4, 5, 2, 2), text_shape=(6, 12), text=text)


def test_declared_by_the_data_set():
    encoder = encoder_of(declared(name="caption", length=6, dim=12), "declared")
    assert torch.equal(encoder.encode(["dark ring"]), CaptionEncoder(6, 12).encode(["dark ring"]))


def test_chosen_in_the_config_and_held_against_the_shards():
    assert encoder_of(declared(), "caption", length=6, dim=12).dim == 12
    with pytest.raises(BadValue, match="text=caption: expected umt5, which the shards' prompt"):
        encoder_of(declared(name="umt5"), "caption", length=6, dim=12)
    with pytest.raises(BadValue, match=r"text=caption: expected embeddings \[6, 12\] as in training, not \[16, 32\]"):
        encoder_of(declared(), "caption")


def test_says_what_to_type():
    with pytest.raises(BadValue, match=r"text=umt5 text.folder=<folder>"):
        encoder_of(declared(name="umt5"), "declared")
    with pytest.raises(BadValue, match="no prompt, because the data set has no prompt embeddings"):
        encoder_of(ClipSpec((4, 5, 2, 2)), "declared")


def test_latents_of_another_codec_are_refused_with_both_values():
    made_by = {"fingerprint": "abc"}
    shards = ClipSpec((16, 5, 2, 2), codec={**PatchDCT().describe(), "name": "wan_vae"}, made_by=made_by)
    codec = OmegaConf.create({"codec": group_config("codec", "patch_dct")}).codec
    with pytest.raises(BadValue, match=r"codec\.name=patch_dct: expected wan_vae, which .*\(fingerprint abc\)"):
        build(codec, spec=shards)
    assert LatentPreview(spec=shards).latent_channels == 16
    assert build(codec, spec=replace(shards, codec=PatchDCT().describe())).latent_channels == 16
    with pytest.raises(BadValue, match=r"codec=patch_dct with 16: expected a codec of the clips' 4 latent channels"):
        build(codec, spec=ClipSpec((4, 5, 2, 2)))
