"""The writer: whole data sets or none, tensors without the rest of their batch, declarations that are read back."""

import io
import json
import os
import tarfile

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data.shards import DatasetMetadata, Sample, write_shards

METADATA = DatasetMetadata(
    latent_shape=(4, 3, 2, 2),
    text_shape=(5, 6),
    codec={"name": "patch_dct", "temporal_factor": 1, "spatial_factor": 4, "first_frame_alone": False},
    latents_mean=[0.5, -1.0, 0.25, 2.0],
    latents_std=[1.5, 2.0, 0.5, 1.0],
    normalised=False,
    fps=8.0,
    made_by={"seed": 7},
)


def samples(count: int, seed: int = 0) -> list[Sample]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, 4, 3, 2, 2, generator=generator)
    text = torch.randn(count, 5, 6, generator=generator)
    return [Sample(f"clip-{i:04d}", latents[i], text[i], f"a bright disc, number {i} — é") for i in range(count)]


def read_tar(path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_members_come_back(tmp_path):
    written = samples(5)
    root = write_shards(tmp_path / "set" / "train", iter(written), METADATA, samples_per_shard=2)
    assert sorted(p.name for p in root.iterdir()) == [
        "dataset.json",
        "shard-00000.tar",
        "shard-00001.tar",
        "shard-00002.tar",
    ]
    members = {}
    for path in sorted(root.glob("*.tar")):
        members |= read_tar(path)
    assert len(members) == 15
    for sample in written:
        latents = torch.load(io.BytesIO(members[f"{sample.key}.latent.pt"]), weights_only=True)
        text = torch.load(io.BytesIO(members[f"{sample.key}.embed.pt"]), weights_only=True)
        torch.testing.assert_close(latents, sample.latents.bfloat16(), rtol=0, atol=0)
        torch.testing.assert_close(text, sample.text.bfloat16(), rtol=0, atol=0)
        assert latents.untyped_storage().nbytes() == latents.numel() * 2, "the stored view carries its batch"
        assert members[f"{sample.key}.prompt.txt"].decode() == sample.prompt


def test_metadata_round_trip_with_the_count(tmp_path):
    root = write_shards(tmp_path / "set", samples(3), METADATA)
    loaded = DatasetMetadata.load(root)
    assert loaded.num_samples == 3
    assert loaded == DatasetMetadata.from_mapping(json.loads((root / "dataset.json").read_text()))
    assert (loaded.latent_shape, loaded.text_shape) == ((4, 3, 2, 2), (5, 6))
    assert (loaded.codec, loaded.latents_mean, loaded.normalised) == (METADATA.codec, METADATA.latents_mean, False)


def test_the_same_samples_give_the_same_bytes(tmp_path):
    first = write_shards(tmp_path / "a", samples(3), METADATA)
    second = write_shards(tmp_path / "b", samples(3), METADATA)
    assert (first / "shard-00000.tar").read_bytes() == (second / "shard-00000.tar").read_bytes()


@pytest.mark.parametrize("mask", [0o027, 0o002])
def test_permissions_are_those_of_any_new_folder(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_shards(tmp_path / "set", samples(1), METADATA)
    finally:
        os.umask(before)
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o777 & ~mask
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "set").iterdir()} == {0o666 & ~mask}


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        yield from samples(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "set", interrupted(), METADATA, samples_per_shard=2)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_shards(tmp_path, samples(1), METADATA)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "set").mkdir()
    assert write_shards(tmp_path / "set", samples(1), METADATA).joinpath("dataset.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [Sample(s[0].key, s[0].latents[:, :2], s[0].text)], r"clip-0000: shape=\[4, 2, 2, 2\]"),
        (lambda s: [Sample(s[0].key, s[0].latents, None)], r"clip-0000.text=None"),
        (lambda s: [s[0], Sample(s[0].key, s[1].latents, s[1].text)], r"key=clip-0000: .*used once"),
        (lambda s: [Sample("a/b", s[0].latents, s[0].text)], r"key=a/b: "),
        (lambda s: [], r"samples=none: expected at least one sample"),
    ],
)
def test_bad_samples_are_refused(tmp_path, change, message):
    with pytest.raises(BadValue, match=message):
        write_shards(tmp_path / "set", change(samples(2)), METADATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_shape": [16, 21, 60]}, r"latent_shape=\(16, 21, 60\): expected the 4 axes of cthw"),
        ({"latent_shape": [16, 21, 60, 0]}, r"latent_shape=.*a list of positive integers"),
        ({"latent_shape": [1, 2, 3, 4], "latent_dtype": "bf16"}, r"latent_dtype=bf16: .*did you mean"),
        ({"latent_shape": [1, 2, 3, 4], "normalised": False}, r"latents_mean=None: expected one number per channel"),
        ({"latent_shape": [2, 8], "layout": "ct", "latents_std": [1.0]}, r"latents_std=\[1.0\]: expected 2 finite"),
        ({"latent_shape": [1, 8], "layout": "ct", "latents_std": [0.0]}, r"latents_std=.*positive"),
        ({"latent_shap": [1, 2, 3, 4]}, r"field=latent_shap: .*did you mean 'latent_shape'"),
        ({"layout": "ct"}, r"latent_shape=None"),
        ({"latent_shape": 5}, r"latent_shape=5: expected a list of positive integers"),
        ({"latent_shape": [1, 8], "layout": "ct", "text_shape": [1]}, r"text_shape=\[1\]: expected \[length, width\]"),
        ({"latent_shape": [1, 8], "layout": "ct", "text_shape": [1, 2, 3]}, r"text_shape=\[1, 2, 3\]"),
        ({"latent_shape": [1, True], "layout": "ct"}, r"latent_shape=.*positive integers"),
        ({"latent_shape": [1, 2**62], "layout": "ct"}, r"latent_shape=.*a shape of at most 2147483648 numbers"),
        ({"latent_shape": [1, 8], "layout": "ct", "latents_mean": [None]}, r"latents_mean=\[None\]: .* 1 finite"),
        ({"latent_shape": [1, 8], "layout": "ct", "latents_mean": 3}, r"latents_mean=3: .* 1 finite"),
        ({"latent_shape": [1, 8], "layout": "ct", "num_samples": "6"}, r"num_samples=6: expected a whole number"),
        ({"latent_shape": [1, 8], "layout": "ct", "fps": "x"}, r"fps=x: expected a positive number"),
        ({"latent_shape": [1, 8], "layout": "ct", "codec": []}, r"codec=\[\]: expected a mapping"),
        (None, "expected a file that holds a mapping, it holds NoneType"),
        (3, "expected a file that holds a mapping, it holds int"),
        ([], "expected a file that holds a mapping, it holds list"),
    ],
)
def test_bad_declarations_name_the_field_and_the_file(tmp_path, values, message):
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    with pytest.raises(BadValue, match=message) as error:
        DatasetMetadata.load(tmp_path)
    assert str(tmp_path / "dataset.json") in str(error.value)


@pytest.mark.parametrize("content", [b"", b'{"latent_shape": [1', b"\xff\xfe", b"[" * 100_000])
def test_a_torn_declaration_is_refused_by_its_file(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(BadValue, match=r"^root=.*dataset.json: expected a file that holds a mapping: "):
        DatasetMetadata.load(tmp_path)


def test_a_path_has_two_axes(tmp_path):
    paths = torch.rand(4, 2, 64)
    metadata = DatasetMetadata(latent_shape=(2, 64), layout="ct", latent_dtype="float32")
    root = write_shards(tmp_path / "maze", (Sample(str(i), p) for i, p in enumerate(paths)), metadata)
    members = read_tar(root / "shard-00000.tar")
    assert "3.embed.pt" not in members
    torch.testing.assert_close(torch.load(io.BytesIO(members["3.latent.pt"]), weights_only=True), paths[3])
