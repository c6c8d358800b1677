import io
import json
import math
import tarfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.data import ClipSource
from interp_refiner.data.codec import PatchDCT
from interp_refiner.data.moving_shapes import MovingShapes
from interp_refiner.data.shards import DatasetMetadata
from interp_refiner.data.text import CaptionEncoder
from interp_refiner.data.world import BRIGHTNESS, DIRECTIONS, SHAPES, Bouncing, Gliding, World
from interp_refiner.data.world.captions import FirstDirection, NetDirection, Turns
from tests.data.shards_on_disk import write

SMALL = {"num_train": 20, "num_val": 6, "num_frames": 5, "height": 16, "width": 24}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving_shapes")
    MovingShapes(**SMALL).write(folder)
    return folder


def read_tars(folder: Path) -> dict[str, bytes]:
    members = {}
    for path in sorted(folder.glob("shard-*.tar")):
        with tarfile.open(path) as tar:
            members |= {info.name: tar.extractfile(info).read() for info in tar.getmembers()}
    return members


def read_all(folder: Path, suffix: str) -> Tensor:
    parts = [content for name, content in read_tars(folder).items() if name.endswith(suffix)]
    return torch.stack([torch.load(io.BytesIO(part), weights_only=True) for part in parts])


def test_shards_hold_what_is_declared(root: Path):
    for split, number in (("train", 20), ("val", 6)):
        metadata = DatasetMetadata.load(root / split)
        assert (metadata.num_samples, metadata.latent_shape, metadata.text_shape) == (number, (16, 5, 4, 6), (16, 32))
        assert (metadata.codec["name"], metadata.codec["spatial_factor"], metadata.normalised) == ("patch_dct", 4, True)
        assert metadata.made_by["split"] == split
        assert metadata.made_by["seed"] == 0
        latents = read_all(root / split, ".latent.pt")
        assert latents.shape == (number, 16, 5, 4, 6)
        assert latents.dtype == torch.bfloat16
    train, val = (DatasetMetadata.load(root / split) for split in ("train", "val"))
    assert train.latents_std == val.latents_std


def test_training_latents_have_unit_variance_overall(root: Path):
    latents = read_all(root / "train", ".latent.pt").float()
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(16), atol=0.02, rtol=0)
    variance = latents.var((0, 2, 3, 4))
    assert variance.mean() == pytest.approx(1, abs=0.02)
    scales = torch.tensor(DatasetMetadata.load(root / "train").latents_std)
    assert scales.max() / scales.min() == pytest.approx(Gliding().max_gain, rel=1e-4)


def test_the_first_world_has_unit_variance_in_every_channel_and_its_old_fingerprint():
    assert MovingShapes(world=Bouncing()).fingerprint == "542ff0431b45"
    first = MovingShapes(**SMALL, world=Bouncing())
    mean, std = (moment.float().view(-1, 1, 1, 1) for moment in first.statistics)
    latents = (torch.cat([PatchDCT().transform(video) for _, _, video in first.clips("train", 20)]) - mean) / std
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(16), atol=0.01, rtol=0)


def test_stored_latents_decode_to_the_rendered_clips(root: Path):
    metadata = DatasetMetadata.load(root / "val")
    codec = PatchDCT(metadata.latents_mean, metadata.latents_std)
    keys, prompts, video = next(MovingShapes(**SMALL).clips("val", 6))
    decoded = codec.decode(read_all(root / "val", ".latent.pt").float())
    psnr = -10 * (decoded - video).square().mean((1, 2, 3, 4)).log10()
    assert psnr.min() >= 32
    members = read_tars(root / "val")
    assert [members[f"{key}.prompt.txt"].decode() for key in keys] == prompts
    embeddings = read_all(root / "val", ".embed.pt")
    assert torch.equal(embeddings, CaptionEncoder().encode(prompts).bfloat16())


@pytest.mark.parametrize("world", [Bouncing(), Gliding()], ids=lambda world: world.name)
def test_captions_name_every_object(world: World):
    scene = world.draw(Draws(0, "val", [f"k{i}" for i in range(40)]), 21, 32, 56)
    texts = FirstDirection()(scene)
    for i, text in enumerate(texts):
        parts = text.split(" and ")
        assert len(parts) == scene.present[i].sum()
        for n, part in enumerate(parts):
            brightness, shape, moving, direction = part.split(" ")
            assert brightness == BRIGHTNESS[scene.brightness[i, n]]
            assert shape == SHAPES[scene.shape[i, n]]
            seen = next(frame for frame in range(20) if scene.in_view[i, n, frame])
            assert (moving, direction) == ("moving", DIRECTIONS[scene.directions[i, n, seen]])
        assert not CaptionEncoder(vocabulary=FirstDirection.vocabulary).notes(text)


@pytest.mark.parametrize("world", [Bouncing(), Gliding()], ids=lambda world: world.name)
def test_the_net_direction_leads_from_the_first_to_the_last_place_in_view(world: World):
    scene = world.draw(Draws(0, "val", [f"k{i}" for i in range(40)]), 21, 32, 56)
    differ = 0
    for i, (text, first) in enumerate(zip(NetDirection()(scene), FirstDirection()(scene), strict=True)):
        for n, part in enumerate(text.split(" and ")):
            seen = [frame for frame in range(21) if scene.in_view[i, n, frame]]
            x, y = (scene.centre[i, n, seen[-1]] - scene.centre[i, n, seen[0]]).tolist()
            angle = DIRECTIONS.index(part.split(" ")[3]) * math.pi / 4
            assert x * math.cos(angle) + y * math.sin(angle) >= math.hypot(x, y) * math.cos(math.pi / 8) - 1e-4
        differ += text != first
    assert differ > 20  # objects turn


@pytest.mark.parametrize("world", [Bouncing(), Gliding(max_objects=1)], ids=lambda world: world.name)
def test_captions_of_turns_tell_the_whole_way(world: World):
    scene = world.draw(Draws(0, "val", [f"k{i}" for i in range(40)]), 21, 32, 56)
    turns = 0
    for i, text in enumerate(Turns()(scene)):
        assert not CaptionEncoder(Turns.words, vocabulary=Turns.vocabulary).notes(text)
        assert len(text.split()) <= Turns.words
        for n, part in enumerate(text.split(" and ")):
            first, *changes = part.partition(" moving ")[2].split(" turning ")
            way = [first] * 20
            for change in changes:
                direction, frame = change.split(" at ")
                way[int(frame) :] = [direction] * (20 - int(frame))
            assert way == [DIRECTIONS[d] for d in scene.directions[i, n]]
            turns += len(changes)
    assert turns > 40


def test_a_set_of_another_world_or_with_other_captions_is_another_set(tmp_path: Path):
    told = MovingShapes(**SMALL, world=Gliding(Turns(), max_objects=1))
    assert MovingShapes(**SMALL, world=Gliding(FirstDirection(), 3)).fingerprint == MovingShapes(**SMALL).fingerprint
    worlds = [Gliding(), Bouncing(), told.world, Gliding(max_objects=1), Gliding(max_gain=2.0), Bouncing(max_gain=2.0)]
    assert len({MovingShapes(**SMALL, world=world).fingerprint for world in worlds}) == len(worlds)
    told.write(tmp_path)
    assert DatasetMetadata.load(tmp_path / "val").text_shape == (Turns.words, CaptionEncoder().dim)
    assert told.scenes("val", list("abcdef")).present.sum(1).eq(1).all()
    with pytest.raises(BadValue, match=f"fingerprint {told.fingerprint}"):
        MovingShapes(**SMALL).write(tmp_path)


def test_splits_are_disjoint_and_a_small_set_begins_a_large_one():
    def clips(split: str, count: int, seed: int = 0) -> Tensor:
        chunks = MovingShapes(**SMALL | {"seed": seed}).clips(split, count)
        return torch.cat([video for _, _, video in chunks])

    train, val = clips("train", 20), clips("val", 6)
    assert torch.cdist(train.flatten(1), val.flatten(1)).min() > 1
    torch.testing.assert_close(clips("train", 3), train[:3], atol=1e-4, rtol=0)
    assert torch.cdist(train.flatten(1), clips("train", 20, seed=1).flatten(1)).min() > 1


def test_writing_again_changes_nothing(root: Path):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    MovingShapes(**SMALL).write(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_same_set_again_byte_for_byte(root: Path, tmp_path: Path):
    MovingShapes(**SMALL).write(tmp_path)
    assert read_tars(tmp_path / "train") == read_tars(root / "train")


def test_a_missing_split_is_completed(root: Path, tmp_path: Path):
    shapes = MovingShapes(**SMALL)
    shapes.write(tmp_path)
    for path in (tmp_path / "val").iterdir():
        path.unlink()
    (tmp_path / "val").rmdir()
    shapes.write(tmp_path)
    assert read_tars(tmp_path / "val") == read_tars(root / "val")
    assert json.loads((tmp_path / "val" / "dataset.json").read_text())["num_samples"] == 6


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_file_where_the_clips_should_go_is_refused(tmp_path: Path, place: str):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadValue, match=f"^root=.*{place}: expected a (folder, but this is a file|writable place)"):
        ClipSource(str(tmp_path / place), writer=MovingShapes(**SMALL)).open()
    assert (tmp_path / "file").read_text() == "mine"


def test_refuses_a_folder_of_other_settings(root: Path):
    other = MovingShapes(**SMALL | {"seed": 3})
    with pytest.raises(BadValue) as caught:
        other.write(root)
    message = str(caught.value)
    assert other.fingerprint in message
    assert MovingShapes(**SMALL).fingerprint in message
    assert "seed=0 instead of 3" in message


@pytest.mark.parametrize(("place", "declared"), [("", False), ("", True), ("val", False), ("val/5x16x24", True)])
def test_somebodys_shards_are_refused_and_left_alone(tmp_path: Path, place: str, declared: bool):
    folder = tmp_path / "theirs" / place
    folder.mkdir(parents=True)
    (folder / "shard-00000.tar").touch()
    if declared:
        (folder / "dataset.json").write_text("{}")
    source = ClipSource(str(tmp_path / "theirs"), writer=MovingShapes(**SMALL))
    before = sorted(tmp_path.rglob("*"))
    for refusing in (source.validate, source.open, lambda: MovingShapes(**SMALL).write(tmp_path / "theirs")):
        with pytest.raises(BadValue, match=r"root=.*it holds .*; data=wan_synth reads existing shards"):
            refusing()
    assert sorted(tmp_path.rglob("*")) == before


def test_clips_that_another_program_made_are_refused(root: Path, tmp_path: Path):
    write(tmp_path / "train", 1)
    with pytest.raises(BadValue, match=r"moving shapes, it holds other clips; data=wan_synth reads existing shards"):
        MovingShapes(**SMALL).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("num_train", 0, "num_train=0: expected at least 1"),
        ("num_frames", 1, "num_frames=1: expected at least 2"),
        ("height", 12, "height=12: expected at least 16"),
        ("width", 30, "video size=16x30: expected a height and width divisible by 4"),
    ],
)
def test_refuses_bad_settings(setting: str, value: int, message: str):
    with pytest.raises(BadValue, match=message):
        MovingShapes(**SMALL | {setting: value})
