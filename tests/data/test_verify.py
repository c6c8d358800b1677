"""Every kind of damage: verify finds and names it, and no reader returns a partial sample."""

import json
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from interp_refiner.config import check_config
from interp_refiner.core import BadValue
from interp_refiner.data import (
    AnchorShards,
    BatchReader,
    EvalLoader,
    ImperfectSource,
    ShardDataset,
    Stores,
    summary,
    verify,
)
from interp_refiner.data.preparation.settings import VerifySettings
from interp_refiner.data.shards import BadSample, LocalFolder, Unavailable, build_index, write_shards
from interp_refiner.prepare import verify as program
from tests.data.shards_on_disk import METADATA, SHAPE, TEXT, read_members, replace_member, saved, write, write_tar
from tests.helpers import CONF

FIRST = "shard-00000.tar"
LAST = "shard-00001.tar"


def latent(value: float) -> bytes:
    return saved(torch.full(SHAPE, value).bfloat16())


def truncate(root: Path) -> None:
    path = root / LAST
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(root: Path, kind: str = "latent") -> None:
    """One bit in the middle of a tensor's numbers, the lowest: the value stays finite."""
    index = build_index(LocalFolder(root))
    shard, offset, *_ = index.locate(2, kind)
    content = bytearray((root / shard).read_bytes())
    plain = (root / shard).read_bytes()[offset:]
    content[offset + plain.index(b"data/0") + 200] ^= 1
    (root / shard).write_bytes(content)


def flip_header(root: Path) -> None:
    offset = build_index(LocalFolder(root)).locate(2, "latent")[1] - 512
    content = bytearray((root / FIRST).read_bytes())
    content[offset + 126] ^= 4
    (root / FIRST).write_bytes(content)


def duplicate(root: Path) -> None:
    members = read_members(root / LAST)
    write_tar(root / LAST, {name.replace("clip-0005", "clip-0001"): content for name, content in members.items()})


DAMAGE = {
    "truncated": (truncate, "truncated"),
    "flipped bit": (flip, "latent: its checksum is wrong"),
    "flipped header": (flip_header, "damaged header"),
    "NaN": (lambda root: replace_member(root / FIRST, "clip-0002.latent.pt", latent(float("nan"))), "NaN or infinite"),
    "infinite text": (
        lambda root: replace_member(
            root / FIRST, "clip-0002.embed.pt", saved(torch.full(TEXT, float("-inf")).bfloat16())
        ),
        "embed: NaN or infinite",
    ),
    "missing": (lambda root: replace_member(root / FIRST, "clip-0002.prompt.txt", None), "no prompt member"),
    "dtype": (
        lambda root: replace_member(root / FIRST, "clip-0002.latent.pt", saved(torch.ones(SHAPE))),
        r"dtype torch.float32, expected torch.bfloat16",
    ),
    "shape": (
        lambda root: replace_member(root / FIRST, "clip-0002.embed.pt", saved(torch.ones(9, 6).bfloat16())),
        r"embed: shape \[9, 6\], expected \[3, 6\]",
    ),
    "no tensor": (lambda root: replace_member(root / FIRST, "clip-0002.latent.pt", b"junk"), "not a tensor file"),
    "prompt": (lambda root: replace_member(root / FIRST, "clip-0002.prompt.txt", b"\xff\xfe"), "utf-8"),
    "duplicate": (duplicate, "its key is already used in shard-00000.tar"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_no_partial_sample_is_ever_read(tmp_path, damage):
    root = tmp_path / "set"
    written = {sample.key: sample for sample in write(root, 8)}
    assert verify(LocalFolder(root)).clean
    harm, message = DAMAGE[damage]
    harm(root)
    report = verify(LocalFolder(root), threads=2)
    assert not report.clean
    assert re.search(message, summary([report])), summary([report])

    dataset = ShardDataset(root, on_bad_sample="skip")
    reader, seen = BatchReader(dataset, threads=2), set()
    for clip in EvalLoader(reader, 3):
        for row, key in enumerate(clip.keys):
            assert key not in seen
            seen.add(key)
            if damage not in ("flipped bit", "duplicate"):
                assert torch.equal(clip.latents[row], written[key].latents.bfloat16())
                assert torch.equal(clip.text[row], written[key].text.bfloat16())
            assert clip.prompts[row]
    assert len(seen) == len(dataset) - reader.skipped
    assert report.whole == len(seen) - (damage == "flipped bit")


def test_a_clean_set_is_counted_through(tmp_path):
    write(tmp_path / "set", 9)
    told = []
    report = verify(LocalFolder(tmp_path / "set"), threads=3, progress=lambda done, total: told.append((done, total)))
    assert (report.shards, report.samples, report.whole, report.anchored, report.clean) == (3, 9, 9, None, True)
    assert told == [(n, 9) for n in range(1, 10)]
    assert report.num_bytes > 9 * (2 * 4 * 5 * 2 * 4 + 2 * 18)


def test_a_set_without_one_whole_sample_is_reported_not_refused(tmp_path):
    write(tmp_path / "set", 2)
    for number in range(2):
        replace_member(tmp_path / "set" / FIRST, f"clip-000{number}.latent.pt", None)
    report = verify(LocalFolder(tmp_path / "set"))
    assert (report.samples, report.whole, len(report.faults)) == (2, 0, 2)


def test_anchor_coverage(tmp_path):
    write(tmp_path / "set", 6)
    dataset = ShardDataset(tmp_path / "set")
    source = ImperfectSource(frames=[0, 3])
    anchors = source.propose([dataset[sample] for sample in range(6)])
    write_shards(tmp_path / "all", anchors, METADATA)
    write_shards(tmp_path / "some", anchors[:4], METADATA)
    whole = verify(LocalFolder(tmp_path / "set"), anchors=AnchorShards(tmp_path / "all"))
    assert (whole.anchored, whole.clean) == (6, True)
    part = verify(LocalFolder(tmp_path / "set"), anchors=AnchorShards(tmp_path / "some"))
    assert (part.anchored, part.whole) == (4, 4)
    assert [(f.key, f.reason) for f in part.faults] == [
        (f"clip-000{i}", f"no anchor in {tmp_path / 'some'}") for i in (4, 5)
    ]


def config(tmp_path: Path, *overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("prepare/verify", [f"root={tmp_path / 'set'}", f"paths.output_dir={tmp_path}", *overrides])


def test_the_program_tells_by_its_exit_code(tmp_path, capsys):
    write(tmp_path / "set" / "train", 6)
    write(tmp_path / "set" / "val", 2)
    check_config(config(tmp_path), VerifySettings)
    program(config(tmp_path))
    assert "6 undamaged, 0 faults" in capsys.readouterr().out
    replace_member(tmp_path / "set" / "val" / FIRST, "clip-0001.latent.pt", latent(float("inf")))
    with pytest.raises(SystemExit) as exited:
        program(config(tmp_path, "threads=2"))
    assert exited.value.code == 1
    assert "shard-00000.tar: sample 'clip-0001': latent: NaN or infinite numbers" in capsys.readouterr().out
    train, val = json.loads((tmp_path / "verify.json").read_text())
    assert (train["clean"], val["clean"], val["faults"][0]["key"]) == (True, False, "clip-0001")


def test_damaged_anchors_are_reported_beside_the_clips(tmp_path, capsys):
    write(tmp_path / "set" / "train", 6)
    clips = ShardDataset(tmp_path / "set" / "train")
    ImperfectSource(frames=[0, 3]).write(tmp_path / "anchors" / "train", clips)
    program(config(tmp_path, f"anchors={tmp_path / 'anchors'}"))
    anchors, train = json.loads((tmp_path / "verify.json").read_text())
    assert (anchors["samples"], anchors["whole"], train["anchored"], train["whole"]) == (6, 6, 6, 6)
    replace_member(tmp_path / "anchors" / "train" / FIRST, "clip-0002.anchor_idx.pt", None)
    shard = tmp_path / "anchors" / "train" / FIRST
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(SystemExit) as exited:
        program(config(tmp_path, f"anchors={tmp_path / 'anchors'}"))
    assert exited.value.code == 1
    anchors, train = json.loads((tmp_path / "verify.json").read_text())
    assert anchors["root"] == str(tmp_path / "anchors" / "train")
    assert [("truncated" in f["reason"], f["key"]) for f in anchors["faults"][:2]] == [(True, ""), (True, "clip-0002")]
    assert anchors["faults"][-1]["reason"].startswith("num_samples is 6, but the 1 shards hold")
    assert 0 < train["whole"] == anchors["whole"] == train["anchored"] < 5
    assert {"key": "clip-0002", "reason": f"no anchor in {shard.parent}", "shard": FIRST} in train["faults"]


def test_shards_that_seem_to_be_missing_are_told(tmp_path, caplog):
    """Of a set that declares no number of samples, names are all that tells."""
    write(tmp_path / "set", 9, per_shard=1)
    root = tmp_path / "set"
    METADATA.save(root)
    for number in (2, 3, 4, 6):
        (root / f"shard-0000{number}.tar").unlink()
    (root / "shard-00007.tar").rename(root / "shard-00007.tar.part")
    report = verify(LocalFolder(root))
    assert (report.samples, report.whole) == (4, 4)
    assert [f.reason for f in report.faults] == [
        "ignored, not named like a shard: shard-00007.tar.part",
        "missing shard numbers: 2, 3, 4 and 2 more",
    ]
    ShardDataset(root)
    assert all(f.reason in caplog.text for f in report.faults)


@pytest.mark.parametrize("kind", ["link", "loop", "folder"])
def test_a_name_of_a_shard_without_a_file_is_a_fault(tmp_path, kind):
    root = tmp_path / "set"
    write(root, 2)
    odd = root / "shard-00001.tar"
    odd.unlink(missing_ok=True)
    if kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to("nowhere" if kind == "link" else odd.name)
    report = verify(LocalFolder(root))
    assert (odd.name, "not a file, but a folder or a broken link") in [(f.shard, f.reason) for f in report.faults]
    with pytest.raises(BadSample, match=f"{odd.name}: not a file, but a folder or a broken link"):
        ShardDataset(root)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied")])
def test_a_shard_that_the_disk_does_not_give_is_named(tmp_path, monkeypatch, error):
    write(tmp_path / "set", 2)

    def failing(*_):
        raise error

    monkeypatch.setattr(LocalFolder, "read_into", failing)
    with pytest.raises(Unavailable, match=f"{FIRST}: {error.strerror}"):
        build_index(LocalFolder(tmp_path / "set"))


def test_nothing_to_verify_is_refused(tmp_path):
    with pytest.raises(BadValue, match=r"root=.*set: expected a folder with shards, or with train or val"):
        program(config(tmp_path))
    assert not Stores().open(tmp_path).holds_shards()


def test_no_threads_are_refused(tmp_path):
    write(tmp_path / "set", 1)
    with pytest.raises(BadValue, match=r"^threads=0: expected at least 1"):
        verify(LocalFolder(tmp_path / "set"), threads=0)
    with pytest.raises(BadValue, match=r"^index_threads=0: expected at least 1"):
        build_index(LocalFolder(tmp_path / "set"), threads=0)


def test_a_sector_that_cannot_be_read_is_one_fault_of_the_report(tmp_path, monkeypatch):
    broken = write(tmp_path / "set", 3)[1].key
    read_into = ShardDataset.read_into

    def failing(self, sample, *buffers, **named):
        if self.where(sample)[1] == broken:
            raise Unavailable(*self.where(sample), "[Errno 5] Input/output error")
        return read_into(self, sample, *buffers, **named)

    monkeypatch.setattr(ShardDataset, "read_into", failing)
    report = verify(LocalFolder(tmp_path / "set"))
    assert [(fault.key, fault.reason) for fault in report.faults] == [(broken, "[Errno 5] Input/output error")]
    assert report.whole == 2
