"""Videos to shards: what is written, what is left out, and how a stopped run continues."""

import shutil
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import Cut, DatasetMetadata, ShardDataset, VideoEncoder, find_videos, walked
from interp_refiner.data.codec import PatchDCT, read_video, write_mp4
from interp_refiner.data.declaration import check_fingerprints
from interp_refiner.data.preparation.chunks import Chunks
from interp_refiner.data.settings import difference
from interp_refiner.data.shards import ShardWriter
from interp_refiner.data.text import CaptionEncoder

CUT = Cut(frame_size=(16, 32), size=(5, 16, 16), stride=(5, 16, 16), held_out_videos=0.0, held_out_end=0.4)

BEGUN = {"fingerprint": "a", "source": "b", "settings": {}, "statistics": [], "still_gap": {}, "chunks": {}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 20 frames, one of which changes shot, and two files that are none."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a", "b", "below/c")):
        generator = torch.Generator().manual_seed(number)
        scene = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 8, generator=generator), size=(16, 32))
        video = scene[:1].repeat(20, 1, 1, 1) + torch.linspace(0, 0.2, 20).view(-1, 1, 1, 1)
        if name == "b":
            video[7:] = 1 - video[7:]
        write_mp4(folder / f"{name}.mp4", video.permute(1, 0, 2, 3), fps=10.0)
    (folder / "a.txt").write_text("a pale\nwall")
    (folder / "broken.mp4").write_bytes(b"no video at all" * 100)
    write_mp4(folder / "short.mp4", torch.rand(3, 3, 16, 32), fps=10.0)
    return folder


def encoder(cut: Cut = CUT, **settings) -> VideoEncoder:
    return VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), cut, **{"videos_per_shard": 2, "threads": 2, **settings})


def test_shards_hold_what_the_videos_show(source: Path, tmp_path: Path) -> None:
    encoded = encoder().write(find_videos(source), tmp_path / "set")
    assert set(encoded.skipped) == {"broken.mp4", "short.mp4"}
    assert "no shot has the 5 frames of a clip (3 in all)" in encoded.skipped["short.mp4"]
    data = {split: ShardDataset(tmp_path / "set" / split) for split in ("train", "val")}
    assert {split: len(found) for split, found in data.items()} == encoded.clips
    train = data["train"]
    keys = [train.key(i) for i in range(len(train))]
    a = train[keys.index("a-mp4-t00005-h0000-w0016")]
    assert a.prompt == "a pale wall"
    torch.testing.assert_close(a.text.float(), CaptionEncoder(4, 8).encode(["a pale wall"])[0], atol=0.02, rtol=0.02)
    metadata = train.metadata
    codec = PatchDCT(metadata.latents_mean, metadata.latents_std)
    shown = read_video(source / "a.mp4", 16, 32)[5:10, :, 16:].permute(3, 0, 1, 2) / 255
    assert (codec.decode(a.latents.float().unsqueeze(0))[0] - shown).abs().mean() < 0.02
    everything = torch.stack([train[i].latents.float() for i in range(len(train))])
    assert (everything.transpose(0, 1).flatten(1).std(1) - 1).abs().max() < 0.05
    assert metadata.made_by["fingerprint"] == encoder().fingerprint
    assert metadata.made_by["still_gap"]["frame_zero"] == [0] * 5
    assert metadata.text == {"name": "caption", "length": 4, "dim": 8, "vocabulary": ["a", "pale", "wall"]}


def test_the_end_is_held_out_and_no_clip_crosses_a_change_of_shot(source: Path, tmp_path: Path) -> None:
    encoder().write(find_videos(source), tmp_path / "set")
    starts = {}
    for split in ("train", "val"):
        data = ShardDataset(tmp_path / "set" / split)
        keys = [data.key(i) for i in range(len(data))]
        starts[split] = {key.split("-t")[0]: set() for key in keys}
        for key in keys:
            starts[split][key.split("-t")[0]].add(int(key.split("-t")[1][:5]))
    assert starts["train"]["a-mp4"] == {0, 5, 7}  # of 12 frames, the last one flush
    assert starts["train"]["b-mp4"] == {0, 2, 7}  # a new shot begins at 7
    assert starts["val"]["a-mp4"] == {12, 15}


def test_whole_videos_are_held_out_by_their_names(source: Path, tmp_path: Path) -> None:
    cut = Cut(frame_size=(16, 32), size=(5, 16, 16), stride=(5, 16, 16), held_out_videos=0.5)
    videos = [replace(video, captions=(video.key,)) for video in find_videos(source)]
    encoder(cut).write(videos, tmp_path / "set")
    names = {
        split: {key.split("-t")[0] for key in map(data.key, range(len(data)))}
        for split in ("train", "val")
        for data in [ShardDataset(tmp_path / "set" / split)]
    }
    assert names["train"]
    assert names["val"]
    assert not names["train"] & names["val"]
    assert set(ShardDataset(tmp_path / "set" / "val").metadata.text["vocabulary"]) == names["train"]


def test_goes_on_behind_its_last_whole_chunk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = find_videos(source)
    encoder(videos_per_shard=1).write(videos, tmp_path / "at_once")
    written = []

    def stopping(shard):
        written.append(shard.path.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        close(shard)

    close = ShardWriter.close
    monkeypatch.setattr(ShardWriter, "close", stopping)
    with pytest.raises(KeyboardInterrupt):
        encoder(videos_per_shard=1).write(videos, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(ShardWriter, "close", lambda shard: again.append(close(shard)))
    again: list[None] = []
    with pytest.raises(BadValue, match=r"videos_per_shard=2: expected 1, with which .*set\.partial was begun"):
        encoder(videos_per_shard=2).write(videos, tmp_path / "set")
    encoder(videos_per_shard=1).write(videos, tmp_path / "set")
    assert len(again) == 4  # two shards each of two videos; those of the first stood
    for file in sorted((tmp_path / "at_once").rglob("*")):
        if file.is_file():
            assert (tmp_path / "set" / file.relative_to(tmp_path / "at_once")).read_bytes() == file.read_bytes()
    assert not (tmp_path / "set.partial").exists()
    again.clear()
    encoder(videos_per_shard=1).write(videos, tmp_path / "set")
    assert again == []


def test_other_settings_are_refused_with_both_fingerprints(source: Path, tmp_path: Path) -> None:
    videos, other = find_videos(source), encoder(Cut(**{**vars(CUT), "fps": 5.0}))
    encoder().write(videos, tmp_path / "set")
    with pytest.raises(BadValue, match=f"{encoder().fingerprint}, not {other.fingerprint}: ") as caught:
        other.write(videos, tmp_path / "set")
    assert "cut.fps=None instead of 5.0" in str(caught.value)
    with pytest.raises(BadValue, match=r"an empty folder: this one was made from other videos \(\w+, not \w+\)"):
        encoder().write(videos[:2], tmp_path / "set")


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"clips": {"train": "3"}, "skipped": {}, "rows": []}'])
def test_a_damaged_record_of_an_unfinished_folder_is_named(content: str, tmp_path: Path) -> None:
    chunks = Chunks(tmp_path / "set")
    chunks.begin(BEGUN)
    assert chunks.state() == BEGUN
    record = chunks.partial / "chunks" / "00003.json"
    record.write_text(content)
    with pytest.raises(
        BadValue,
        match=r"^output=.*00003\.json: expected a file that (holds a mapping|prepare encode wrote)",
    ):
        chunks.state()
    record.unlink()
    (chunks.partial / "encode.json").write_text(content)
    with pytest.raises(
        BadValue,
        match=r"^output=.*encode\.json: expected a file that (holds a mapping|prepare encode wrote)",
    ):
        chunks.state()


def test_every_setting_that_differs_is_told_by_its_path() -> None:
    found = {"codec": {"name": "a"}, "cut": {"fps": None, "size": [5, 16, 16]}, "same": [1, 2]}
    wanted = {"codec": {"name": "b"}, "cut": {"fps": None, "size": [9, 16, 16], "new": 1}, "same": [1, 2]}
    assert difference(found, wanted) == (
        "codec.name=a instead of b, cut.new=None instead of 1, cut.size=[5, 16, 16] instead of [9, 16, 16]"
    )


def test_training_refuses_other_fingerprints_with_both_values() -> None:
    one, two = (DatasetMetadata((4, 5, 2, 2), made_by={"fingerprint": name}) for name in ("aaa", "bbb"))
    check_fingerprints(None, one, one)
    check_fingerprints("aaa", one, one)
    with pytest.raises(BadValue, match="fingerprint=ccc: expected aaa, which the shards of train have"):
        check_fingerprints("ccc", one, one)
    with pytest.raises(BadValue, match="not aaa and bbb"):
        check_fingerprints(None, one, two)


def test_captions_from_a_csv(source: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text('file,caption\nbelow/c.mp4,"a wall, brightening"\n')
    said = {video.key: video.caption for video in find_videos(source, captions)}
    assert said["below-c-mp4"] == "a wall, brightening"
    assert said["a-mp4"] == "a pale wall"
    captions.write_text("file,caption\na.mp4,from a table\n", encoding="utf-8-sig")
    assert find_videos(source, captions)[0].caption == "from a table"
    captions.write_text("file,caption\nbelow/d.mp4,nothing\n")
    with pytest.raises(BadValue, match=r"not 'below/d\.mp4'"):
        find_videos(source, captions)
    captions.write_text("file,caption\nbelow/cc.mp4,nothing\n")
    with pytest.raises(BadValue, match=r"not 'below/cc\.mp4'; did you mean 'below/c\.mp4'\?"):
        find_videos(source, captions)
    captions.write_text("file,caption\na.mp4,one\na.mp4,another\n")
    assert find_videos(source, captions)[0].captions == ("one", "another")


def test_faults_of_single_videos_are_named_and_left_out(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(source, folder)
    (folder / "a.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (folder / "below" / "broken.mp4").write_bytes(b"no video either" * 100)
    encoded = encoder().write(find_videos(folder), tmp_path / "set")
    assert set(encoded.skipped) == {"a.mp4", "below/broken.mp4", "broken.mp4", "gone.mp4", "short.mp4"}
    assert "a.txt cannot be read as UTF-8" in encoded.skipped["a.mp4"]
    assert "dangling link" in encoded.skipped["gone.mp4"]


def test_two_videos_of_one_key_are_named(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(source, folder)
    (folder / "a.avi").write_bytes(b"another suffix is another name")
    assert {"a-mp4", "a-avi"} <= {video.key for video in find_videos(folder)}
    shutil.copy(folder / "a.mp4", folder / "below-c.mp4")
    with pytest.raises(BadValue, match=r"'below/c\.mp4' and 'below-c\.mp4' would both be below-c-mp4"):
        find_videos(folder)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"max_frames": 4}, "max_frames=4: expected at least 5, the frames of a clip"),
        ({"shot_change": -0.1}, r"shot_change=-0\.1: expected a difference above 0"),
        ({"shot_change": float("nan")}, "shot_change=nan: expected a difference"),
        ({"fps": float("nan")}, "fps=nan: expected frames per second"),
    ],
)
def test_cuts_that_cannot_be_are_refused(setting: dict[str, float], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        Cut(**{**vars(CUT), **setting})


def test_says_why_no_video_is_of_use(source: Path, tmp_path: Path) -> None:
    too_long = Cut(**{**vars(CUT), "size": (50, 16, 16)})
    said = r"source=5 videos: expected at least one .*; \S+\.mp4: (no shot has the 50 frames|Invalid data)"
    for codec in (PatchDCT(), PatchDCT([0.0] * 16, [1.0] * 16)):
        with pytest.raises(BadValue, match=said):
            VideoEncoder(codec, CaptionEncoder(4, 8), too_long).write(find_videos(source), tmp_path / "set")


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_work(source: Path, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine")
    with pytest.raises(BadValue, match=r"output=.*set: expected a new or empty folder: it is a file"):
        encoder().write(find_videos(source), tmp_path / "set")
    assert (tmp_path / "set").read_text() == "mine"
    assert not (tmp_path / "set.partial").exists()


def test_says_what_is_wrong(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"source=.*expected a folder of videos .*: it is empty"):
        find_videos(tmp_path)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / ".hidden.mp4").write_bytes(b"")
    with pytest.raises(BadValue, match=r"source=.*expected a folder of videos .*: 1 left out, hidden"):
        find_videos(tmp_path / "only")
    with pytest.raises(BadValue, match=r"size=.*clips within frames of"):
        Cut(frame_size=(16, 16), size=(5, 16, 32))
    with pytest.raises(BadValue, match=r"video size=16x18: expected a height and width divisible by 4"):
        encoder(Cut(frame_size=(16, 18), size=(5, 16, 18)))
    nothing_held_out = Cut(frame_size=(16, 32), size=(5, 16, 16), stride=(5, 16, 16), held_out_videos=0.0)
    with pytest.raises(BadValue, match=r"held_out_videos=0\.0.*val would be empty, unless held_out_end"):
        encoder(nothing_held_out).write(find_videos(source), tmp_path / "set")
    assert not (tmp_path / "set.partial").exists()  # nothing was decoded
    too_short = Cut(**{**vars(CUT), "held_out_end": 0.1})
    with pytest.raises(BadValue, match=r"val would be empty \(delete .*set\.partial before another try\)"):
        encoder(too_short).write(find_videos(source), tmp_path / "set")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(BadValue, match="a new or empty folder: it holds files already"):
        encoder().write(find_videos(source), tmp_path / "other")
    assert list((tmp_path / "set.partial" / "chunks").glob("*.json"))


def test_rates_repeat_and_leave_out_frames(source: Path) -> None:
    assert len(read_video(source / "a.mp4", 16, 32)) == 20
    assert len(read_video(source / "a.mp4", 16, 32, fps=5.0)) == 10
    assert len(read_video(source / "a.mp4", 16, 32, fps=20.0)) == 39
    assert len(read_video(source / "a.mp4", 16, 32, max_frames=7)) == 7
    every_other = read_video(source / "a.mp4", 16, 32)[::2]
    assert torch.equal(read_video(source / "a.mp4", 16, 32, fps=5.0), every_other)


def test_frames_cover_the_size_and_are_cropped_to_the_middle(source: Path) -> None:
    wide, square = read_video(source / "a.mp4", 16, 32), read_video(source / "a.mp4", 16, 16)
    assert torch.equal(square, wide[:, :, 8:24])


def test_a_folder_is_walked_once_and_what_is_left_out_is_counted(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(source / "below", folder / "deep" / "er")
    shutil.copy(source / "a.mp4", folder / "Cats [dQw4w9WgXcQ].mp4")
    shutil.copy(source / "b.mp4", folder / "cats [dqw4W9wgxcq].MP4")
    for hidden in ("._a.mp4", ".trash/a.mp4"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        shutil.copy(source / "a.mp4", folder / hidden)
    (folder / "a_link.mp4").symlink_to(folder / "deep" / "er" / "c.mp4")
    (folder / "a_loop").symlink_to(folder)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(source / "a.mp4", tmp_path / "elsewhere" / "d.mp4")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "notes.txt").write_text("of nothing")
    (folder / "Cats [dQw4w9WgXcQ].txt").write_text("cats")
    (folder / "cover.jpg").write_bytes(b"")
    paths, left_out = walked(folder)
    names = [str(path.relative_to(folder)) for path in paths]
    assert names == ["Cats [dQw4w9WgXcQ].mp4", "deep/er/c.mp4", "linked/d.mp4"]
    assert left_out == {
        "hidden": ["._a.mp4", ".trash"],
        "the same folder as another": ["a_loop"],
        "the same file as another": ["a_link.mp4"],
        "another name that differs only in case": ["cats [dqw4W9wgxcq].MP4"],
        "a caption without a video": ["notes.txt"],
        "not a video (.jpg)": ["cover.jpg"],
    }
    assert [video.caption for video in find_videos(folder)] == ["cats", "", ""]


def test_what_is_not_whole_is_skipped_and_what_is_converted_is_told(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(source / "a.mp4", folder / "a.mp4")
    frames = torch.rand(60, 8, 16, 3, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
    with av.open(str(folder / "torn.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for pixels in frames.repeat(2, 1).repeat(2, 2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    content = (folder / "torn.avi").read_bytes()
    (folder / "torn.avi").write_bytes(content[: len(content) * 3 // 4])
    encoded = encoder().write(find_videos(folder), tmp_path / "set")
    assert encoded.skipped["torn.avi"].startswith("truncated: ")
    assert " of 60 frames are there" in encoded.skipped["torn.avi"]
    use = encoder(replace(CUT, incomplete="use", shot_change=None)).write(find_videos(folder), tmp_path / "rest")
    assert not use.skipped
    assert use.remarks["torn.avi"][0] == encoded.skipped["torn.avi"].partition(";")[0]
    made_by = DatasetMetadata.load(tmp_path / "rest" / "train").made_by
    assert made_by["remarks"] == use.remarks


def test_a_link_to_an_empty_folder_is_filled_where_it_leads(source: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "set").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    encoder().write(find_videos(source), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(ShardDataset(tmp_path / "disk" / "set" / "train"))
    assert [path.name for path in tmp_path.iterdir() if path.name != "disk"] == ["link"]


def test_a_mount_point_is_refused_before_the_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    with pytest.raises(BadValue, match=r"output=.*set: expected a folder that can be renamed.*it is a mount point"):
        encoder().write(find_videos(source), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_shards_of_many_chunks_keep_their_order(tmp_path: Path) -> None:
    chunks = Chunks(tmp_path / "set")
    chunks.begin(BEGUN)
    (chunks.partial / "train").mkdir()
    for number in (10001, 100000):
        (chunks.partial / "train" / f"shard-{number}.tar").write_text(str(number))
        chunks.save(number, {"clips": {"train": 1}, "skipped": {"caf\udce9.mp4": "torn"}, "rows": []})
    chunks.finish({"train": DatasetMetadata(latent_shape=(1, 2, 3, 4))})
    shards = [(tmp_path / "set" / "train" / f"shard-0000{number}.tar").read_text() for number in range(2)]
    assert shards == ["10001", "100000"]
    assert "- `caf\\udce9.mp4`: torn" in (tmp_path / "set" / "report.md").read_text()
