"""Datasets: numbers of unit variance, bad samples named, declarations held against what is stored."""

import json

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import BadSample, DatasetMetadata, ShardDataset
from interp_refiner.data.dataset import check_declaration
from interp_refiner.data.shards import write_shards
from tests.data.shards_on_disk import METADATA, SHAPE, TEXT, replace_member, samples, saved, write


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
    with pytest.raises(BadValue, match="at least 1 whole sample"):
        ShardDataset(tmp_path / "set", on_bad_sample="skip")


@pytest.mark.parametrize("finite_check", ["once", "always"])
def test_numbers_are_looked_at_once_or_always(tmp_path, finite_check):
    write(tmp_path / "set", 3)
    dataset = ShardDataset(tmp_path / "set", finite_check=finite_check)
    for sample in (0, 1):
        dataset[sample]
    shard, offset, size = dataset.index.locate(1, "latent")
    with open(tmp_path / "set" / shard, "r+b") as file:  # numbers that change under the reader
        file.seek(offset)
        content = file.read(size)
        place = content.index(dataset[1].latents.view(torch.int16).numpy().tobytes())
        file.seek(offset + place)
        file.write(b"\xff\xff")
    if finite_check == "once":
        assert torch.isnan(dataset[1].latents.flatten()[0])
    else:
        with pytest.raises(BadSample, match="latent: NaN"):
            dataset[1]
    with pytest.raises(BadSample, match="latent: NaN"):
        ShardDataset(tmp_path / "set")[1]
