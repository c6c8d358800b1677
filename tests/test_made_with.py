"""A run's encoder of prompts, and its codec, held against what its data set was made with."""

from dataclasses import replace
from pathlib import Path
from typing import final

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner.assemble import build_text_encoder, check_codec
from interp_refiner.core import BadValue
from interp_refiner.data import DatasetMetadata
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.data.text import CaptionEncoder
from tests.helpers import group_config


@final
class Renderer:
    """Makes a data set, and has the encoder of its captions."""

    text = CaptionEncoder(6, 12)

    def write(self, root: Path) -> None:
        """Never called here."""


def encoder_of(metadata: DatasetMetadata, text: str | None, writer: Renderer | None = None, **values):
    config = OmegaConf.create({**group_config("text", text), **values}) if text else None
    return build_text_encoder(config, metadata, writer)


def declared(**text) -> DatasetMetadata:
    return DatasetMetadata(latent_shape=(4, 5, 2, 2), text_shape=(6, 12), text=text)


def test_declared_by_the_data_set():
    encoder = encoder_of(declared(name="caption", length=6, dim=12), "declared")
    assert torch.equal(encoder.encode(["dark ring"]), CaptionEncoder(6, 12).encode(["dark ring"]))


def test_brought_by_the_writer_of_a_set_that_declares_none():
    assert isinstance(encoder_of(declared(), None, Renderer()), CaptionEncoder)


def test_chosen_in_the_config_and_held_against_the_shards():
    assert encoder_of(declared(), "caption", length=6, dim=12).dim == 12
    with pytest.raises(BadValue, match="text=caption: expected umt5, which the shards' prompt"):
        encoder_of(declared(name="umt5"), "caption", length=6, dim=12)
    with pytest.raises(BadValue, match=r"text=caption: expected embeddings \[6, 12\] as trained on, not \[16, 32\]"):
        encoder_of(declared(), "caption")


def test_says_what_to_type():
    with pytest.raises(BadValue, match=r"text=umt5 text.folder=<folder>"):
        encoder_of(declared(name="umt5"), "declared")
    with pytest.raises(BadValue, match="no prompt: the data set has no prompt embeddings"):
        encoder_of(DatasetMetadata(latent_shape=(4, 5, 2, 2)), "declared")


def test_latents_of_another_codec_are_refused_with_both_values():
    made_by = {"fingerprint": "abc"}
    shards = DatasetMetadata((16, 5, 2, 2), codec={**PatchDCT().describe(), "name": "wan_vae"}, made_by=made_by)
    with pytest.raises(BadValue, match=r"codec\.name=patch_dct: expected wan_vae, which .*\(fingerprint abc\)"):
        check_codec(PatchDCT(), shards)
    check_codec(LatentPreview(), shards)
    check_codec(PatchDCT(), replace(shards, codec=PatchDCT().describe()))
