"""The index: every member at the place that tarfile finds, kept until a shard changes, damage is always reported."""

import os
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp_refiner.data.shards import DatasetMetadata, LocalFolder, build_index, write_shards
from interp_refiner.data.shards.index import cache_path
from interp_refiner.data.shards.tar import KINDS, split_member
from tests.data.shards_on_disk import SHAPE, Watched, read_members, replace_member, samples, write, write_tar

ALL = ["latent", "embed", "prompt"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.latent.pt", ("a", "latent")),
        ("./a.latent.pth", ("a", "latent")),
        ("a/a.embed.pt", ("a", "embed")),
        ("a/embed.pth", ("a", "embed")),
        ("a/prompt.txt", ("a", "prompt")),
        ("v1.0.3_x.latent.pt", ("v1.0.3_x", "latent")),
        ("v1.latent/v1.latent.embed.pt", ("v1.latent", "embed")),
        ("a.anchor.pt", ("a", "anchor")),
        ("a.anchor_idx.pt", ("a", "anchor_idx")),
        ("part/a.latent.pt", ("part/a", "latent")),
        ("part/a/a.latent.pt", ("part/a", "latent")),
        ("a.latent.npy", None),
        ("a.txt", None),
        (".latent.pt", None),
        ("._a.latent.pt", None),
    ],
)
def test_member_names(name, expected):
    assert split_member(name) == expected


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=150),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    sizes=st.lists(st.integers(0, 2000), min_size=10, max_size=10),
)
def test_spans_agree_with_tarfile_in_every_format(tmp_path, names, form, sizes):
    names = [f"k{name}" for name in names]  # no leading dot
    kinds = ("latent.pt", "prompt.txt")
    contents = {
        f"{name}.{kind}": os.urandom(sizes[2 * i + j]) for i, name in enumerate(names) for j, kind in enumerate(kinds)
    }
    path = write_tar(tmp_path / "shard-00000.tar", contents, format=form)
    storage = LocalFolder(tmp_path)
    index = build_index(storage)
    assert index.keys == names
    assert index.damage == [""]
    for row, name in enumerate(names):
        for kind, suffix in (("latent", "latent.pt"), ("prompt", "prompt.txt")):
            assert bytes(storage.read(*index.locate(row, kind)[:3])) == contents[f"{name}.{suffix}"]
    storage.close()
    path.unlink()


def test_spellings_and_strays(tmp_path):
    write_tar(tmp_path / "shard_000001.tar", {"b/b.latent.pth": b"1", "b/b.prompt.txt": b"2", "b/b.embed.pth": b"3"})
    write_tar(tmp_path / "shard-00000.tar", {"readme.md": b"x", "a.embed.pt": b"4", "a.latent.pt": b"5"})
    write_tar(tmp_path / "other.tar", {"c.latent.pt": b"6"})
    with tarfile.open(tmp_path / "shard-00002.tar", "w") as tar:
        folder = tarfile.TarInfo("c")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    index = build_index(LocalFolder(tmp_path))
    assert index.shards == ["shard-00000.tar", "shard-00002.tar", "shard_000001.tar"]
    assert index.keys == ["a", "b"]
    assert [index.locate(row, "latent")[0] for row in (0, 1)] == ["shard-00000.tar", "shard_000001.tar"]
    assert [str(f) for f in index.faults(ALL).values()] == ["shard-00000.tar: sample 'a': no prompt member"]


def test_the_cache_saves_reading_until_a_shard_changes(tmp_path):
    root, cache = tmp_path / "set", tmp_path / "cache"
    write(root, 12)
    first = build_index(LocalFolder(root), cache)
    before = sorted(root.iterdir())

    warm = Watched(root)
    again = build_index(warm, cache)
    assert warm.reads == []
    assert (again.keys, again.shards, again.damage) == (first.keys, first.shards, first.damage)
    np.testing.assert_array_equal(again.spans, first.spans)

    replace_member(root / "shard-00001.tar", "clip-0005.prompt.txt", None)
    changed = Watched(root)
    assert [str(f) for f in build_index(changed, cache).faults(ALL).values()] == [
        "shard-00001.tar: sample 'clip-0005': no prompt member"
    ]
    assert {shard for shard, _, _ in changed.reads} == {"shard-00001.tar"}

    os.utime(root / "shard-00002.tar", ns=(1, 1))
    touched = Watched(root)
    build_index(touched, cache)
    assert {shard for shard, _, _ in touched.reads} == {"shard-00002.tar"}

    (root / "shard-00000.tar").unlink()
    fewer = Watched(root)
    assert build_index(fewer, cache).keys == first.keys[4:]
    assert fewer.reads == []
    assert sorted(root.iterdir()) == before[:1] + before[2:], "something was written beside the shards"


def test_two_folders_never_share_a_cache(tmp_path):
    for part in ("a", "b"):
        write(tmp_path / part / "train", 2, prefix=part)
    for part in ("a", "b", "a"):
        assert build_index(LocalFolder(tmp_path / part / "train"), tmp_path / "c").keys == [
            f"{part}-0000",
            f"{part}-0001",
        ]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", os.urandom(500)])
def test_a_broken_cache_is_made_anew(tmp_path, content, caplog):
    write(tmp_path / "set", 3)
    storage = LocalFolder(tmp_path / "set")
    keys = build_index(storage, tmp_path / "cache").keys
    cache_path(storage, tmp_path / "cache").write_bytes(content)
    assert build_index(storage, tmp_path / "cache").keys == keys
    assert "will be rebuilt" in caplog.text
    warm = Watched(tmp_path / "set")
    build_index(warm, tmp_path / "cache")
    assert warm.reads == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, caplog):
    write(tmp_path / "set", 3)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(build_index(LocalFolder(tmp_path / "set"), tmp_path / "cache")) == 3
    assert "could not be saved" in caplog.text


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_shard_is_named_wherever_it_ends(tmp_path, share):
    root = tmp_path / "set"
    if not root.exists():
        write(root, 3)
        (tmp_path / "whole.tar").write_bytes((root / "shard-00000.tar").read_bytes())
    path, whole = root / "shard-00000.tar", (tmp_path / "whole.tar").read_bytes()
    members = read_members(tmp_path / "whole.tar")
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # of the last member, behind it the end-of-archive mark
    path.write_bytes(whole[: int(share * (end + 1))])
    index = build_index(LocalFolder(root))
    (damage,) = index.damaged_shards()
    assert str(damage).startswith("shard-00000.tar: ")
    assert "truncated" in damage.reason or "damaged header" in damage.reason
    for row, key in enumerate(index.keys):
        for kind, suffix in zip(KINDS[:3], ("latent.pt", "embed.pt", "prompt.txt"), strict=True):
            if (span := index.members(row).get(kind)) is not None:
                assert bytes(LocalFolder(root).read(*span[:3])) == members[f"{key}.{suffix}"]


def test_a_damaged_header_is_named(tmp_path):
    write(tmp_path / "set", 4)
    path = tmp_path / "set" / "shard-00000.tar"
    index = build_index(LocalFolder(tmp_path / "set"))
    header = index.locate(2, "latent")[1] - 512
    content = bytearray(path.read_bytes())
    content[header + 124 : header + 128] = b"!!!!"  # of the size
    path.write_bytes(content)
    damaged = build_index(LocalFolder(tmp_path / "set"))
    assert damaged.keys == index.keys[:2]
    assert str(damaged.damaged_shards()[0]).startswith(f"shard-00000.tar: damaged header at byte {header}: ")


@pytest.mark.parametrize("key", ["k" * 95, "ключ"])
def test_a_name_that_stands_in_blocks_of_its_own_is_covered(tmp_path, key):
    """Even a set of one member a sample loses none: no other member would miss it."""
    sample = replace(samples(1)[0], key=key)
    metadata = DatasetMetadata(SHAPE, text_shape=None)
    write_shards(tmp_path / "set", [sample], metadata)
    path = tmp_path / "set" / "shard-00000.tar"
    sound = path.read_bytes()
    blocks = build_index(LocalFolder(path.parent)).locate(0, "latent").offset - 512
    assert blocks == 1024
    for place in range(0, blocks, 23):
        path.write_bytes(bytes([*sound[:place], sound[place] ^ 1 << place % 8, *sound[place + 1 :]]))
        assert "damaged header at byte 0" in build_index(LocalFolder(path.parent)).damage[0]


def test_keys_used_twice_are_named(tmp_path):
    write(tmp_path / "set", 6, per_shard=3)
    (tmp_path / "set" / "shard-00002.tar").write_bytes((tmp_path / "set" / "shard-00000.tar").read_bytes())
    index = build_index(LocalFolder(tmp_path / "set"))
    assert [str(fault) for fault in index.faults(ALL).values()] == [
        f"shard-00002.tar: sample 'clip-000{i}': its key is already used in shard-00000.tar" for i in range(3)
    ]


def test_a_key_used_twice_in_one_shard_is_named(tmp_path):
    members = [("a.latent.pt", b"1"), ("a.prompt.txt", b"2"), ("a.latent.pt", b"3")]
    write_tar(tmp_path / "shard-00000.tar", members)
    faults = build_index(LocalFolder(tmp_path)).faults(["latent"])
    assert [str(f) for f in faults.values()] == [
        "shard-00000.tar: sample 'a': its key is already used in shard-00000.tar"
    ]
