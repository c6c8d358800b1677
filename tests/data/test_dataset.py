"""Datasets: unit variance, bad samples are named, declarations are compared with the stored data."""

import errno
import json
import os
import re

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import BadSample, DatasetMetadata, ShardDataset, Unavailable
from interp_refiner.data.declaration import check_declaration
from interp_refiner.data.shards import LocalFolder, build_index, finite_rows, write_shards
from tests.data.shards_on_disk import METADATA, SHAPE, TEXT, replace_member, samples, saved, write

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_samples_come_back(tmp_path):
    written = write(tmp_path / "set", 6)
    dataset = ShardDataset(tmp_path / "set")
    assert len(dataset) == 6
    for i in (4, 0, 5, 2):
        sample = dataset[i]
        assert (sample.key, sample.prompt) == (written[i].key, written[i].prompt)
        torch.testing.assert_close(sample.latents, written[i].latents.bfloat16(), rtol=0, atol=0)
        torch.testing.assert_close(sample.text, written[i].text.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_latents_are_normalised_unless_they_already_are(tmp_path, dtype):
    mean, std = [0.5, -1.0, 0.25, 2.0], [1.5, 2.0, 0.5, 1.0]
    generator = torch.Generator().manual_seed(1)
    raw = torch.randn(4, *SHAPE, generator=generator).to(getattr(torch, dtype))
    declared = {"latent_shape": SHAPE, "latent_dtype": dtype, "latents_mean": mean, "latents_std": std}
    for normalised in (False, True):
        metadata = DatasetMetadata(**declared, normalised=normalised)
        stored = [type(s)(s.key, z) for s, z in zip(samples(4), raw, strict=True)]
        root = write_shards(tmp_path / f"{normalised}", stored, metadata)
        dataset = ShardDataset(root)
        for i in range(4):
            latents = dataset[i].latents
            if normalised:
                assert latents.dtype == raw.dtype
                assert torch.equal(latents, raw[i])
            else:
                by_channel = [(raw[i, c].double() - mean[c]) / std[c] for c in range(4)]
                assert latents.dtype == torch.float32
                torch.testing.assert_close(latents.double(), torch.stack(by_channel), rtol=1e-6, atol=1e-6)


def test_text_and_prompts_are_optional(tmp_path):
    stored = [type(s)(s.key, s.latents) for s in samples(2)]
    root = write_shards(tmp_path / "set", stored, DatasetMetadata(latent_shape=SHAPE))
    replace_member(root / "shard-00000.tar", "clip-0001.prompt.txt", None)
    dataset = ShardDataset(root)
    assert (dataset[1].text, dataset[1].prompt) == (None, "")


BROKEN = {
    "latent: NaN or infinite numbers": ("latent.pt", lambda: saved(spoiled(SHAPE, float("nan")))),
    "embed: NaN or infinite numbers": ("embed.pt", lambda: saved(spoiled(TEXT, float("-inf")))),
    "latent: shape [4, 5, 2, 5], expected [4, 5, 2, 4]": (
        "latent.pt",
        lambda: saved(torch.ones(4, 5, 2, 5).bfloat16()),
    ),
    "latent: dtype torch.float32, expected torch.bfloat16": ("latent.pt", lambda: saved(torch.ones(SHAPE))),
    "embed: not a tensor file": ("embed.pt", lambda: saved(torch.ones(TEXT).bfloat16())[:-40]),
    "codec can't decode": ("prompt.txt", lambda: b"\xff\xfe\xff"),
}


def spoiled(shape, value):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    tensor.view(-1)[-1] = value
    return tensor


@pytest.mark.parametrize("reason", BROKEN)
def test_a_bad_sample_is_named(tmp_path, reason):
    write(tmp_path / "set", 6)
    member, content = BROKEN[reason]
    replace_member(tmp_path / "set" / "shard-00001.tar", f"clip-0005.{member}", content())
    dataset = ShardDataset(tmp_path / "set")
    with pytest.raises(BadSample) as error:
        dataset[5]
    assert (error.value.shard, error.value.key) == ("shard-00001.tar", "clip-0005")
    assert reason in error.value.reason
    assert str(error.value).startswith("shard-00001.tar: sample 'clip-0005': ")
    assert dataset[4].key == "clip-0004"


def test_what_the_index_shows_is_an_error_at_once(tmp_path):
    write(tmp_path / "set", 8)
    replace_member(tmp_path / "set" / "shard-00000.tar", "clip-0002.embed.pt", None)
    replace_member(tmp_path / "set" / "shard-00001.tar", "clip-0004.latent.pt", None)
    with pytest.raises(BadSample) as error:
        ShardDataset(tmp_path / "set")
    assert "shard-00000.tar: sample 'clip-0002': no embed member" in str(error.value)
    assert "shard-00001.tar: sample 'clip-0004': no latent member" in str(error.value)


def test_what_the_index_shows_is_skipped_by_name(tmp_path, caplog):
    write(tmp_path / "set", 8)
    replace_member(tmp_path / "set" / "shard-00000.tar", "clip-0002.embed.pt", None)
    path = tmp_path / "set" / "shard-00001.tar"
    path.write_bytes(path.read_bytes()[:5000])
    dataset = ShardDataset(tmp_path / "set", on_bad_sample="skip")
    keys = [dataset.key(i) for i in range(len(dataset))]
    assert keys[:3] == ["clip-0000", "clip-0001", "clip-0003"]
    assert [dataset[i].key for i in range(len(dataset))] == keys
    skipped = {f"clip-{i:04d}" for i in range(8)} - set(keys)
    assert "clip-0007" in skipped
    assert "skipped: shard-00000.tar: sample 'clip-0002': no embed member" in caplog.text
    assert "shard-00001.tar: truncated" in caplog.text
    assert "of 8 samples" in caplog.text or "skipped" in caplog.text


def test_held_out_samples_depend_on_their_keys_alone(tmp_path):
    write(tmp_path / "a", 30, per_shard=7)
    reordered = samples(30)[::-1]
    write_shards(tmp_path / "b", reordered, METADATA, samples_per_shard=4)
    sets = []
    for name in "ab":
        train, val = ShardDataset(tmp_path / name).split(6)
        keys = [{part.key(i) for i in range(len(part))} for part in (train, val)]
        assert (len(train), len(val)) == (24, 6)
        assert keys[0].isdisjoint(keys[1])
        assert val[3].key == val.key(3)
        sets.append(keys)
    assert sets[0] == sets[1]
    with pytest.raises(BadValue, match=r"held_out=30: expected 1 to 29"):
        ShardDataset(tmp_path / "a").split(30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_shape": [4, 5, 2, 6]}, r"latent_shape=\[4, 5, 2, 6\]: expected what .*set holds, \[4, 5, 2, 4\]"),
        ({"latent_dtype": "float32"}, r"latent_dtype=float32: expected what .* holds, bfloat16"),
        ({"text_shape": [4, 6]}, r"text_shape=\[4, 6\]: expected what .* holds, \[3, 6\]"),
    ],
)
def test_a_declaration_that_is_wrong_is_refused(tmp_path, change, message):
    write(tmp_path / "set", 3)
    check_declaration(ShardDataset(tmp_path / "set"))
    file = tmp_path / "set" / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BadValue, match=message):
        check_declaration(ShardDataset(tmp_path / "set"))


def test_metadata_beside_the_shards_goes_before_the_config(tmp_path):
    write(tmp_path / "set", 3)
    other = DatasetMetadata(latent_shape=(9, 9, 9, 9))
    assert ShardDataset(tmp_path / "set", other).metadata.latent_shape == SHAPE
    (tmp_path / "set" / "dataset.json").unlink()
    assert ShardDataset(tmp_path / "set", other).metadata is other
    with pytest.raises(BadValue, match=r"metadata=None: expected the shapes of .*set, which has no dataset.json"):
        ShardDataset(tmp_path / "set")


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(BadValue, match=r"root=.*: expected a folder with shards"):
        ShardDataset(tmp_path, METADATA)


def test_a_set_of_bad_samples_only_is_refused(tmp_path):
    write(tmp_path / "set", 1)
    replace_member(tmp_path / "set" / "shard-00000.tar", "clip-0000.latent.pt", None)
    with pytest.raises(BadValue, match="at least 1 undamaged sample"):
        ShardDataset(tmp_path / "set", on_bad_sample="skip")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_GPU])])
def test_rows_that_are_not_finite_are_found_by_their_bits(dtype, device):
    batch = torch.randn(5, 4, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    batch[1, 2, 3], batch[3, 0, 0], batch[4, 3, 8] = float("nan"), float("-inf"), torch.finfo(dtype).min
    assert finite_rows(batch.to(device)).tolist() == [True, False, True, False, True]


def test_fewer_samples_than_declared_are_refused(tmp_path, caplog):
    write(tmp_path / "set", 8)
    lost = (tmp_path / "set" / "shard-00001.tar").rename(tmp_path / "elsewhere")
    message = r"dataset.json: num_samples is 8, but the 1 shards hold 4"
    for mode in ("error", "skip"):
        with pytest.raises(BadSample, match=message):
            ShardDataset(tmp_path / "set", on_bad_sample=mode)
    content = lost.read_bytes()  # a shard that is named as damaged explains what is missing
    (tmp_path / "set" / "shard-00001.tar").write_bytes(content[: len(content) // 2])
    assert 4 < len(ShardDataset(tmp_path / "set", on_bad_sample="skip")) < 8
    assert "num_samples is 8" in caplog.text
    with pytest.raises(BadSample, match="truncated"):
        ShardDataset(tmp_path / "set")


def test_more_samples_than_declared_are_told(tmp_path, caplog):
    write(tmp_path / "set", 8)
    declared = json.loads((tmp_path / "set" / "dataset.json").read_text())
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({**declared, "num_samples": 7}))
    assert len(ShardDataset(tmp_path / "set")) == 8
    assert "num_samples is 7, but the 2 shards hold 8" in caplog.text


@pytest.mark.parametrize("mode", ["error", "skip"])
@pytest.mark.parametrize("lost", [1, 3, 5])
def test_zeros_inside_a_shard_are_no_end(tmp_path, mode, lost):
    write(tmp_path / "set", 6, per_shard=6)
    path = tmp_path / "set" / "shard-00000.tar"
    header = build_index(LocalFolder(tmp_path / "set")).locate(6 - lost, "latent")[1] - 512
    content = bytearray(path.read_bytes())
    content[header : header + 512] = bytes(512)
    path.write_bytes(content)
    damage = rf"damaged: the archive ends at byte {header}, .*behind clip-000{5 - lost}.prompt.txt"
    (found,) = build_index(LocalFolder(tmp_path / "set")).damaged_shards()
    assert re.search(damage, found.reason)
    if mode == "error":
        with pytest.raises(BadSample, match=damage):
            ShardDataset(tmp_path / "set")
    else:
        assert len(ShardDataset(tmp_path / "set", on_bad_sample="skip")) == 6 - lost


def test_checksums_find_a_prompt_that_rots(tmp_path):
    write(tmp_path / "set", 3)
    path = tmp_path / "set" / "shard-00000.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b"prompt 1")] ^= 1
    path.write_bytes(content)
    assert ShardDataset(tmp_path / "set")[1].prompt == "qrompt 1 — é"
    with pytest.raises(BadSample, match="'clip-0001': prompt: its checksum is wrong"):
        ShardDataset(tmp_path / "set", checksums=True)[1]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_mount_that_fails_is_no_bad_sample(tmp_path, number):
    class Gone(LocalFolder):
        def read_into(self, *_):
            raise OSError(number, os.strerror(number))

    write(tmp_path / "set", 2)
    dataset = ShardDataset(tmp_path / "set", on_bad_sample="skip")
    dataset.storage = Gone(tmp_path / "set")
    with pytest.raises(Unavailable, match=rf"shard-00000\.tar: sample 'clip-0000': .*{os.strerror(number)}"):
        dataset[0]
