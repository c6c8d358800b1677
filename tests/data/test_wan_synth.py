"""Wan2.1 latents: the declared statistics are the autoencoder's, and windows of one clip do not mix splits."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from interp_refiner.core import BadValue
from interp_refiner.data import ClipSource, ShardDataset, wan_synth_metadata, windows, write_clip_windows
from interp_refiner.data.declaration import check_declaration
from interp_refiner.data.wan_synth import load_clip
from tests.helpers import CONF

REAL_CLIP = Path(__file__).resolve().parents[3] / "shared" / "data" / "wan_clip.pth"


def test_the_declaration_is_the_autoencoders_own():
    metadata = wan_synth_metadata()
    assert metadata.latent_shape == (16, 21, 60, 104)
    assert metadata.text_shape == (512, 4096)
    assert metadata.codec == {
        "name": "wan_vae",
        "temporal_factor": 4,
        "spatial_factor": 8,
        "first_frame_alone": True,
    }
    assert (metadata.latents_mean[0], metadata.latents_std[0]) == (-0.7571, 2.8184)
    assert len(metadata.latents_mean) == len(metadata.latents_std) == 16
    assert wan_synth_metadata(text_shape=None, normalised=False).text_shape is None


def test_the_config_declares_the_same():
    config = OmegaConf.create({"paths": {"data_root": "/nowhere", "cache": "/nowhere"}, "seed": 3})
    config.data = OmegaConf.load(CONF / "data" / "wan_synth.yaml")
    data = instantiate(config.data, _convert_="all")
    assert isinstance(data, ClipSource)
    assert data.metadata == wan_synth_metadata()
    assert data.reading.seed == 3
    with pytest.raises(BadValue, match=r"root=/nowhere/wan_synth: expected a folder with train/ and val/"):
        data.validate()


@settings(max_examples=60)
@given(
    extents=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    stride=st.tuples(*[st.integers(1, 10)] * 3),
)
def test_windows_cover_the_clip_where_strides_allow(extents, size, stride):
    size = tuple(min(pair) for pair in zip(size, extents, strict=True))
    latents = torch.arange(2 * extents[0] * extents[1] * extents[2]).view(2, *extents).float()
    seen = set()
    corners = []
    for (t, h, w), window in windows(latents, size, stride):
        assert window.shape == (2, *size)
        assert window[0, 0, 0, 0] == latents[0, t, h, w]
        seen |= set(window.flatten().tolist())
        corners.append((t, h, w))
    assert len(set(corners)) == len(corners)
    assert tuple(map(max, zip(*corners, strict=True))) == tuple(e - s for e, s in zip(extents, size, strict=True))
    if all(step <= length for step, length in zip(stride, size, strict=True)):
        assert len(seen) == latents.numel()


@pytest.mark.parametrize("batched", [True, False])
def test_a_clip_becomes_a_data_set_whose_held_out_part_is_apart(tmp_path, batched):
    numbers = torch.randperm(16 * 6 * 12 * 20, generator=torch.Generator().manual_seed(0))
    clip = numbers.view(16, 6, 12, 20).float() / 1000  # every number of the clip is another one, in float32
    torch.save(clip[None] if batched else clip, tmp_path / "clip.pth")
    root = write_clip_windows(
        tmp_path / "clip.pth", tmp_path / "set", (6, 8, 8), (1, 2, 2), held_out_width=8, text_shape=(3, 5)
    )
    sets = {split: ShardDataset(root / split) for split in ("train", "val", "val_heldout")}
    assert {split: len(dataset) for split, dataset in sets.items()} == {"train": 9, "val": 4, "val_heldout": 2}
    for dataset in sets.values():
        check_declaration(dataset)
        assert dataset.metadata.latent_shape == (16, 6, 8, 8)
        assert dataset.metadata.made_by["source"] == "clip.pth"
        assert dataset[0].text.abs().sum() == 0
        assert dataset[0].text.shape == (3, 5)
    expected = {"train": clip[..., :12], "val": clip[..., :12], "val_heldout": clip[..., 12:]}
    for split, dataset in sets.items():
        region = expected[split].bfloat16()
        for i in range(len(dataset)):
            sample = dataset[i]
            t, h, w = (int(part[1:]) for part in sample.key.removeprefix(split).strip("-").split("-"))
            assert torch.equal(sample.latents, region[:, t : t + 6, h : h + 8, w : w + 8])
    keys = [dataset.key(i) for dataset in sets.values() for i in range(len(dataset))]
    assert len(set(keys)) == len(keys), "randomness is drawn by key"
    data = ClipSource(str(root), batch_size=2).open()
    assert data.train.metadata.num_samples == 9


@pytest.mark.parametrize(
    ("value", "kwargs", "message"),
    [
        ({"latents": torch.rand(16, 4, 8, 8)}, {}, r"source=.*: expected a tensor .* it holds dict"),
        (torch.rand(2, 16, 4, 8, 8), {}, r"source=.*it holds \[2, 16, 4, 8, 8\]"),
        (torch.rand(16, 4, 8, 8), {"size": (4, 8, 4)}, r"held_out_width=16: expected 4 to 4"),
        (torch.rand(16, 4, 8, 8), {"size": (5, 8, 4), "held_out_width": 4}, r"size=\[5, 8, 4\]: .* frames is 4"),
        (
            torch.rand(16, 4, 8, 8),
            {"size": (4, 8, 4), "held_out_width": 4, "stride": (1, 0, 1)},
            r"stride=\[1, 0, 1\]: expected steps of at least 1",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(tmp_path, value, kwargs, message):
    torch.save(value, tmp_path / "clip.pth")
    with pytest.raises(BadValue, match=message):
        write_clip_windows(tmp_path / "clip.pth", tmp_path / "set", **kwargs)
    assert not (tmp_path / "set" / "train").exists()


@pytest.mark.skipif(not REAL_CLIP.exists(), reason=f"needs {REAL_CLIP}")
def test_the_real_clip_is_about_normalised(tmp_path):
    root = write_clip_windows(REAL_CLIP, tmp_path / "set")
    train = ShardDataset(root / "train")
    numbers = torch.stack([train[i].latents.float() for i in range(0, len(train), 7)])
    assert numbers.shape[1:] == (16, 16, 16, 16)
    assert 0.5 < numbers.std() < 1.5
    assert len(ShardDataset(root / "val_heldout")) == 3


CLIP = torch.randn(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CLIP * torch.nan, "of finite numbers: it holds NaN or infinity"),
        (CLIP.long(), "of floats, not of int64"),
        (CLIP.to(torch.complex64), "of floats, not of complex64"),
        (CLIP.to(torch.float8_e4m3fn), "of floats, not of float8_e4m3fn"),
        (torch.quantize_per_tensor(CLIP, 0.1, 0, torch.qint8), "it holds a quantized tensor"),
        (CLIP.to_sparse(), "it holds a sparse_coo tensor"),
        (CLIP.to("meta"), "it holds a meta tensor"),
        (torch.nested.nested_tensor([CLIP[0], CLIP[1, :2]]), "it holds a nested tensor"),
    ],
)
def test_a_clip_of_other_numbers_is_refused(tmp_path, content, said):
    torch.save(content, tmp_path / "clip.pt")
    with pytest.raises(BadValue, match=f"^source=.*clip.pt: expected a tensor file .* of one clip, {said}$"):
        load_clip(tmp_path / "clip.pt")


@pytest.mark.parametrize("content", [b"", b"no tensor"])
def test_a_file_that_holds_no_clip_is_refused(tmp_path, content):
    (tmp_path / "clip.pt").write_bytes(content)
    with pytest.raises(
        BadValue, match=r"source=.*clip\.pt: expected a tensor file \[c, t, h, w\] of one clip: it is damaged"
    ):
        load_clip(tmp_path / "clip.pt")
