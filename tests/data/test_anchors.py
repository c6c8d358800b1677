"""Anchor shards: written, indexed and joined by key; faults are named."""

import logging
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import Anchors, AnchorShards, ClipSource, ImperfectSource, Reading, Sample, ShardDataset
from interp_refiner.data.shards import BadSample, write_shards
from interp_refiner.data.shards.write import Anchor
from tests.data.shards_on_disk import METADATA, SHAPE, replace_member, saved, write


def anchor(key, frames, seed=0):
    values = torch.randn(SHAPE[0], len(frames), *SHAPE[2:], generator=torch.Generator().manual_seed(seed))
    return Anchor(key, values, torch.tensor(frames, dtype=torch.int64))


def read(shards, key):
    latents, proposed = torch.full(SHAPE, 7.0), torch.ones(SHAPE[1], dtype=torch.bool)
    shards.read_into(key, latents, proposed)
    return latents, proposed


def test_anchors_come_back_by_key_in_their_frames(tmp_path):
    written = [anchor("b", [4, 0], 1), anchor("a", [2], 2), anchor("c.d", [], 3)]
    shards = AnchorShards(write_shards(tmp_path / "anchors", written, METADATA, samples_per_shard=2))
    for one in written:
        latents, proposed = read(shards, one.key)
        assert proposed.nonzero().flatten().tolist() == sorted(one.frames.tolist())
        assert torch.equal(latents[:, one.frames], one.latents.bfloat16().float())
        assert (latents[:, ~proposed] == 7).all()
    assert not read(shards, "unknown")[1].any()


def test_a_file_where_the_anchors_should_go_is_refused(tmp_path):
    write(tmp_path / "set", 2)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadValue, match=r"^data\.anchors\.root=.*: expected a writable place"):
        ImperfectSource(sigma=0.1).write(tmp_path / "file" / "train", ShardDataset(tmp_path / "set"))


def test_clips_without_an_anchor_are_named_or_ignored_aloud(tmp_path, caplog):
    shards = AnchorShards(write_shards(tmp_path / "anchors", [anchor("b", [1])], METADATA))
    shards.check(["b"])
    with pytest.raises(
        BadValue, match=r"anchors\.missing=error: .* has none for a, c, d, e and 2 more\. Delete .*anchors"
    ):
        shards.check(["a", "b", "c", "d", "e", "f", "g"])
    with caplog.at_level(logging.WARNING):
        shards.check(["a", "b"], "ignore")
    assert "no anchors in" in caplog.text
    assert " for a: " in caplog.text


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("anchor_idx", torch.tensor([1, 9]), r"indices \[1, 9\], expected 0 to 4"),
        ("anchor_idx", torch.tensor([2, 2]), "indices .*distinct int64"),
        ("anchor_idx", torch.tensor([0.0, 1.0]), "indices .*distinct int64"),
        ("anchor", torch.randn(4, 3, 2, 4), r"shape \[4, 3, 2, 4\], expected \[4, 2, 2, 4\]"),
        ("anchor", torch.full((4, 2, 2, 4), torch.inf), "NaN or infinite"),
    ],
)
def test_a_bad_anchor_names_shard_key_and_reason(tmp_path, member, value, reason):
    root = write_shards(tmp_path / "anchors", [anchor("b", [1, 3])], METADATA)
    replace_member(root / "shard-00000.tar", f"b.{member}.pt", saved(value))
    with pytest.raises(BadSample, match=rf"shard-00000\.tar: sample 'b': anchor: {reason}"):
        read(AnchorShards(root), "b")


def test_an_anchor_without_indices_and_an_empty_folder_are_refused(tmp_path):
    root = write_shards(tmp_path / "anchors", [anchor("b", [1, 3])], METADATA)
    replace_member(root / "shard-00000.tar", "b.anchor_idx.pt", None)
    with pytest.raises(BadSample, match="sample 'b': no anchor_idx"):
        AnchorShards(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadValue, match=r"anchors\.root=.*anchor shards"):
        AnchorShards(tmp_path / "empty")


def test_anchors_that_are_stored_raw_are_normalised_as_they_declare(tmp_path):
    mean, std = [1.0, 2.0, 3.0, 4.0], [0.5, 2.0, 4.0, 8.0]
    raw = replace(METADATA, normalised=False, latents_mean=mean, latents_std=std)
    one = anchor("b", [3, 0])
    root = write_shards(tmp_path / "anchors", [one], raw)
    column = torch.tensor(mean).view(-1, 1, 1, 1), torch.tensor(std).view(-1, 1, 1, 1)
    expected = (one.latents.bfloat16().float() - column[0]) / column[1]
    torch.testing.assert_close(read(AnchorShards(root), "b")[0][:, [3, 0]], expected)
    (root / "dataset.json").unlink()
    with pytest.raises(BadValue, match=r"metadata=None: expected the shapes of .*anchors, which has no dataset\.json"):
        AnchorShards(root)
    torch.testing.assert_close(read(AnchorShards(root, metadata=raw), "b")[0][:, [3, 0]], expected)


@pytest.mark.parametrize("missing", ["error", "ignore"])
def test_a_truncated_shard_is_a_fault_whatever_may_be_missing(tmp_path, missing):
    write(tmp_path / "set", 8)
    root = write_shards(tmp_path / "a" / "train", [anchor(f"clip-{i:04d}", [1, 2]) for i in range(8)], METADATA)
    shard = root / "shard-00000.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(BadSample, match=r"shard-00000\.tar"):
        Anchors(str(tmp_path / "a"), missing).open("train", ShardDataset(tmp_path / "set"))


def test_an_imperfect_source_shifts_frames_and_adds_noise(tmp_path):
    write(tmp_path / "set", 20)
    dataset, source = ShardDataset(tmp_path / "set"), ImperfectSource(frames=[0, 2, 4], sigma=0.0, max_shift=1)
    steps = set()
    for sample in map(dataset.__getitem__, range(20)):
        (one,), clean = source.propose([sample]), sample.latents.float()
        assert one.key == sample.key
        for column, frame in enumerate(one.frames.tolist()):
            found = [t for t in range(5) if torch.equal(one.latents[:, column], clean[:, t])]
            steps.add(found[0] - frame)
    assert steps == {-1, 0, 1}
    still = [Sample("k", torch.zeros(8, 50, 4, 4))]
    noisy, again = (ImperfectSource(sigma=0.5, max_shift=0).propose(still)[0].latents for _ in range(2))
    assert 0.47 < noisy.std() < 0.53
    assert torch.equal(noisy, again)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"frames": [1, 1]}, r"frames=\[1, 1\]: expected distinct frame indices"),
        ({"frames": [-1]}, r"frames=\[-1\]"),
        ({"sigma": -0.1}, "sigma=-0.1"),
        ({"sigma": float("nan")}, "sigma=nan: expected a finite number >= 0"),
        ({"sigma": float("inf")}, "sigma=inf"),
        ({"max_shift": -1}, "max_shift=-1"),
    ],
)
def test_bad_settings_of_a_source_name_themselves(setting, message):
    with pytest.raises(BadValue, match=message):
        ImperfectSource(**setting)


def test_frames_beyond_the_clip_are_refused():
    with pytest.raises(BadValue, match=r"frames=\[5\]: expected indices from 0 to 4"):
        ImperfectSource(frames=[5]).propose([Sample("k", torch.randn(SHAPE))])


class TestAnchorsOfADataSet:
    """Opened by split, made on first use, and never mistaken for another source's."""

    @pytest.fixture
    def clips(self, tmp_path):
        write(tmp_path / "set", 6)
        return ShardDataset(tmp_path / "set")

    def test_a_source_writes_them_once(self, tmp_path, clips, monkeypatch):
        anchors = Anchors(str(tmp_path / "anchors"), source=ImperfectSource(frames=[1, 3]))
        anchors.validate()
        shards = anchors.open("train", clips)
        assert set(shards.rows) == {clips.key(i) for i in range(6)}
        assert read(shards, clips.key(2))[1].tolist() == [False, True, False, True, False]
        monkeypatch.setattr("interp_refiner.data.anchor_source.write_shard", lambda *_: pytest.fail("written again"))
        anchors.open("train", clips)

    def test_what_was_interrupted_goes_on_with_the_first_shard_that_is_missing(self, tmp_path, clips, monkeypatch):
        monkeypatch.setattr("interp_refiner.data.anchor_source.SHARD", 2)
        source, asked = ImperfectSource(sigma=0.2), []
        source.write(tmp_path / "whole", clips)
        propose = ImperfectSource.propose

        def until_the_fourth(self, some):
            asked.extend(clip.key for clip in some)
            if len(asked) == 4:
                raise KeyboardInterrupt
            return propose(self, some)

        monkeypatch.setattr(ImperfectSource, "propose", until_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            source.write(tmp_path / "train", clips)
        assert not (tmp_path / "train").exists()
        with pytest.raises(BadValue, match=r"sigma=0\.2 instead of 0\.4.*delete .*train\.partial"):
            ImperfectSource(sigma=0.4).write(tmp_path / "train", clips)
        source.write(tmp_path / "train", clips)
        assert asked[4:] == [clips.key(number) for number in range(2, 6)]
        for file in (tmp_path / "whole").iterdir():
            assert (tmp_path / "train" / file.name).read_bytes() == file.read_bytes()
        assert not list(tmp_path.glob("*.partial"))

    def test_another_source_s_anchors_are_refused(self, tmp_path, clips):
        Anchors(str(tmp_path / "anchors"), source=ImperfectSource(sigma=0.2)).open("train", clips)
        other = Anchors(str(tmp_path / "anchors"), source=ImperfectSource(sigma=0.4))
        with pytest.raises(BadValue, match=r"data\.anchors\.root=.*these have sigma=0\.2 instead of 0\.4"):
            other.open("train", clips)

    @pytest.mark.parametrize("source", [None, ImperfectSource()])
    def test_anchors_of_other_clips_with_the_same_keys_are_refused(self, tmp_path, clips, source):
        Anchors(str(tmp_path / "anchors"), source=ImperfectSource()).open("train", clips)
        shutil.rmtree(tmp_path / "set")
        write(tmp_path / "set", 6, seed=5)
        said = r"data\.anchors\.root=.*train: expected anchors of the clips in .*set: clip clip-0000 has changed"
        with pytest.raises(BadValue, match=said + ".*; delete this folder"):
            Anchors(str(tmp_path / "anchors"), source=source).open("train", ShardDataset(tmp_path / "set"))

    def test_the_same_clips_elsewhere_are_recognised_and_new_ones_are_named(self, tmp_path, clips):
        Anchors(str(tmp_path / "anchors"), source=ImperfectSource()).open("train", clips)
        shutil.move(tmp_path / "set", tmp_path / "moved")
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        Anchors(str(tmp_path / "anchors"), source=ImperfectSource()).open("train", ShardDataset(tmp_path / "moved"))
        write(tmp_path / "set", 8)
        said = r"has none for clip-0006, clip-0007\. Delete .*train to make them again|clip clip-000. has changed"
        with pytest.raises(BadValue, match=said):
            Anchors(str(tmp_path / "anchors"), source=ImperfectSource()).open("train", ShardDataset(tmp_path / "set"))

    def test_other_files_are_not_written_over(self, tmp_path, clips):
        (tmp_path / "anchors" / "train").mkdir(parents=True)
        (tmp_path / "anchors" / "train" / "notes.txt").write_text("mine")
        with pytest.raises(
            BadValue,
            match=r"data\.anchors\.root=.*expected a folder in which train/ has anchors, is empty or does not exist",
        ):
            Anchors(str(tmp_path / "anchors"), source=ImperfectSource()).open("train", clips)

    def test_one_folder_serves_both_splits_by_key(self, tmp_path, clips):
        names = [clips.key(i) for i in range(6)]
        write_shards(tmp_path / "anchors", [anchor(key, [2]) for key in ["other", *names]], METADATA)
        for source in (None, ImperfectSource()):
            shards = Anchors(str(tmp_path / "anchors"), source=source).open("val", clips)
            assert read(shards, names[0])[1].tolist() == [False, False, True, False, False]

    def test_missing_ones_are_named(self, tmp_path, clips):
        write_shards(tmp_path / "anchors" / "train", [anchor("clip-0001", [2])], METADATA)
        with pytest.raises(BadValue, match=r"data\.anchors\.missing=error: .* has none for clip-0000, clip-0002"):
            Anchors(str(tmp_path / "anchors")).open("train", clips)
        shards = Anchors(str(tmp_path / "anchors"), "ignore").open("train", clips)
        assert not read(shards, "clip-0000")[1].any()

    def test_what_a_missing_anchor_is_has_two_answers(self):
        with pytest.raises(BadValue, match=r"missing=skip: expected error \| ignore"):
            Anchors.__post_init__(SimpleNamespace(missing="skip"))  # past the type checker of the tests

    def test_a_root_without_anchors_is_refused_before_anything_is_read(self, tmp_path):
        with pytest.raises(BadValue, match=r"data\.anchors\.root=.*prepare anchors"):
            Anchors(str(tmp_path / "nowhere")).validate()


@pytest.mark.parametrize("checksums", [False, True])
def test_checksums_of_anchors_are_those_of_the_reading(tmp_path, checksums):
    one = anchor("clip-0000", [1, 3])
    for split in ("train", "val"):
        write(tmp_path / "set" / split, 1)
        write_shards(tmp_path / "anchors" / split, [one], METADATA)
    shard = tmp_path / "anchors" / "train" / "shard-00000.tar"
    content = bytearray(shard.read_bytes())
    content[content.index(one.latents.bfloat16().view(torch.uint8).numpy().tobytes())] ^= 1
    shard.write_bytes(content)
    source = ClipSource(
        str(tmp_path / "set"), anchors=Anchors(str(tmp_path / "anchors")), reading=Reading(checksums=checksums)
    )
    train, _ = source.open().anchors()
    with pytest.raises(BadSample, match="checksum is wrong") if checksums else nullcontext():
        read(train, "clip-0000")
