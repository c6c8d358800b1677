"""Captions: their sources, and which of several a clip gets."""

import json
import shutil
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from interp_refiner.core import BadValue
from interp_refiner.data import (
    BatchReader,
    Cut,
    EvalLoader,
    ShardDataset,
    TrainLoader,
    VideoEncoder,
    find_videos,
    verify,
)
from interp_refiner.data.codec import PatchDCT, write_mp4
from interp_refiner.data.preparation.captions import captions_beside, read_captions
from interp_refiner.data.shards import LocalFolder
from interp_refiner.data.text import CaptionEncoder

CUT = Cut(frame_size=(16, 16), size=(5, 16, 16), stride=(5, 16, 16), held_out_videos=0.0, held_out_end=0.4)
TEXT = CaptionEncoder(4, 8)


def encoder(cut: Cut = CUT) -> VideoEncoder:
    return VideoEncoder(PatchDCT(), TEXT, cut, videos_per_shard=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        video = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(number)).expand(-1, 15, -1, -1)
        write_mp4(folder / f"{number}.mp4", video, fps=10.0)
    return folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'file,caption\n0.mp4,"one, two"\n./below/1.mp4, three \n0.mp4,four\n0.mp4,four\n'),
        ("a.csv", '\ufeffvideo,more,text\n0.mp4,x,"one, two"\nbelow//1.mp4,x,three\n0.mp4,,four\n'),
        ("a.jsonl", '{"file": "0.mp4", "caption": ["one,\\ntwo", "four"]}\n\n'
                    '{"file": "below/1.mp4", "caption": "three"}\n'),
        ("a.jsonl", '{"video": "0.mp4", "text": "one, two"}\n{"file_name": "below/1.mp4", "text": "three", "id": 3}\n'
                    '{"video": "0.mp4", "text": "four"}\n'),
        ("a.json", '[{"file": "0.mp4", "caption": "one, two"}, {"file": "below/1.mp4", "caption": "three"},\n'
                   '{"file": "0.mp4", "caption": ["four"]}]'),
    ],
)  # fmt: skip
def test_tables_as_data_sets_have_them(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_captions(tmp_path / name) == {"0.mp4": ("one, two", "four"), "below/1.mp4": ("three",)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"name,words\nx,y\n", "row 1 has name, words"),
        ("a.csv", b"file,caption\n\xff\xfe,y\n", "can't decode"),
        ("a.csv", b"file\nx\n", "row 1 has file"),
        ("a.csv", b"file,caption\na,b\nc,red, rolling, fast\n", "line 3: 'rolling,  fast' is in no column"),
        ("a.jsonl", b'{"file": "a", "caption": "b"}\n{"file": "a"}\n', "row 2 has file"),
        ("a.jsonl", b'{"file": "a", "caption": 3}\n', "row 1 has file, caption"),
        ("a.jsonl", b'{"file": "a", "caption": [["b"]]}\n', "row 1 has file, caption"),
        ("a.jsonl", b"[1]\n", "row 1 has nothing"),
        ("a.jsonl", b"{file\n", "Expecting property name"),
        ("a.json", b"[" * 9999, "recursion"),
        ("a.json", b'[{"file": "a", "caption": "b"}, {"file": "a"}]', "row 2 has file"),
        ("a.json", b'{"a.mp4": "b"}', "row 1 has a.mp4"),
        ("a.json", b"[[1]]", "row 1 has nothing"),
        ("a.json", b"3", "row 1 has nothing"),
        ("a.json", b"[]", "it has no rows"),
        ("a.jsonl", b"\n", "it has no rows"),
        ("a.csv", b"file,caption\n", "it has no rows"),
        ("a.txt", b'[{"file": "a", "caption": "b"}]', "it has no rows"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_tables_that_are_none_are_refused_with_the_row(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadValue, match=rf"^captions=.*expected a csv, jsonl or json with file \| video.*{said}"):
        read_captions(tmp_path / name)


def test_texts_beside_a_video(tmp_path: Path) -> None:
    assert captions_beside(tmp_path / "a.mp4") == ()
    (tmp_path / "a.caption").write_text("a pale\nwall ")
    assert captions_beside(tmp_path / "a.mp4") == ("a pale wall",)
    (tmp_path / "a.txt").write_text("another wall", encoding="utf-8-sig")
    assert captions_beside(tmp_path / "a.mp4") == ("another wall", "a pale wall")
    (tmp_path / "a.txt").write_text("a pale wall")
    assert captions_beside(tmp_path / "a.mp4") == ("a pale wall",)


def test_one_of_several_captions_is_drawn_by_sample_and_epoch(source: Path, tmp_path: Path) -> None:
    said = {"0.mp4": ["red", "crimson", "scarlet"], "1.mp4": ["blue"]}
    table = tmp_path / "captions.jsonl"
    table.write_text("".join(json.dumps({"video": name, "text": text}) + "\n" for name, text in said.items()))
    encoder().write(find_videos(source, table), tmp_path / "set")
    dataset = ShardDataset(tmp_path / "set" / "train")
    assert dataset.metadata.num_captions == 3
    assert verify(LocalFolder(tmp_path / "set" / "train")).clean
    captions = {"0-mp4": said["0.mp4"], "1-mp4": said["1.mp4"], "2-mp4": [""]}
    seen = defaultdict(set)

    def batches(position: int = 0):
        loader = TrainLoader(BatchReader(dataset, threads=2), 2)
        loader.load_state_dict({"position": position, "num_samples": len(dataset), "seed": 0})
        return loader

    drawn = {}
    for clip in islice(batches(), 30):
        for key, epoch, prompt, text in zip(clip.keys, clip.epochs, clip.prompts, clip.text, strict=True):
            torch.testing.assert_close(text.float(), TEXT.encode([prompt])[0].bfloat16().float())
            seen[key[:5]].add(prompt)
            drawn[key, epoch] = prompt
    assert seen == {key: set(every) for key, every in captions.items()}
    for clip in islice(batches(position=22), 10):  # a run that goes on sees what it would have seen
        assert clip.prompts == [drawn[known] for known in zip(clip.keys, clip.epochs, strict=True)]
    for clip in EvalLoader(BatchReader(dataset), 4):
        assert clip.prompts == [captions[key[:5]][0] for key in clip.keys]


def test_a_caption_that_was_not_drawn_is_verified(source: Path, tmp_path: Path) -> None:
    class Spoilt(CaptionEncoder):
        def encode(self, prompts):
            embedded = super().encode(prompts)
            embedded[[prompt == "crimson" for prompt in prompts]] = torch.inf
            return embedded

    table = tmp_path / "captions.csv"
    table.write_text("file,caption\n0.mp4,red\n0.mp4,crimson\n")
    made = VideoEncoder(PatchDCT(), Spoilt(4, 8), CUT)
    made.write(find_videos(source, table), tmp_path / "set")
    report = verify(LocalFolder(tmp_path / "set" / "train"))
    assert {(fault.key[:5], fault.reason) for fault in report.faults} == {("0-mp4", "embed: NaN or infinite numbers")}


def test_pictures_are_clips_of_one_frame_and_only_where_clips_are(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(source, folder)
    pixels = torch.randint(0, 256, (16, 48, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    for number in range(8):
        Image.fromarray(pixels).save(folder / f"picture{number}.PNG")
    (folder / "picture3.caption").write_text("noise")
    (folder / "torn.jpg").write_bytes(b"no picture")
    assert len(find_videos(folder, suffixes=CUT.suffixes)) == 3
    cut = Cut(frame_size=(16, 16), size=(1, 16, 16), stride=(5, 16, 16), held_out_videos=0.3)
    encoded = encoder(cut).write(find_videos(folder, suffixes=cut.suffixes), tmp_path / "set")
    assert encoded.skipped == {"torn.jpg": "not an image file"}
    data = [ShardDataset(tmp_path / "set" / split) for split in ("train", "val")]
    samples = {sample.key: sample for part in data for sample in map(part.__getitem__, range(len(part)))}
    noise = samples["picture3-PNG-t00000-h0000-w0000"]
    assert (noise.prompt, noise.latents.shape[1]) == ("noise", 1)
    metadata = data[0].metadata
    shown = PatchDCT(metadata.latents_mean, metadata.latents_std).decode(noise.latents.float()[None])[0, :, 0]
    wanted = torch.from_numpy(pixels[:, 16:32]).permute(2, 0, 1) / 255
    whole = PatchDCT().decode(PatchDCT().encode(wanted[None, :, None]))[0, :, 0]
    assert (shown - whole).abs().mean() < 0.02
