"""The commands that make data of videos and prompts."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from interp_refiner.config.check import check_config
from interp_refiner.config.refusal import Refused
from interp_refiner.core import BadValue, Stopped, load_embedding
from interp_refiner.data import DatasetMetadata, VideoEncoder
from interp_refiner.data.codec import write_mp4
from interp_refiner.data.preparation.commands import tell
from interp_refiner.data.preparation.settings import EncodeSettings
from interp_refiner.data.text import CaptionEncoder
from interp_refiner.prepare import COMMANDS, embed, encode
from tests.helpers import CONF


def config(command: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(f"prepare/{command}", list(overrides))


def test_encode_tells_what_was_left_out_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "videos"
    source.mkdir()
    write_mp4(source / "long.mp4", torch.rand(3, 1, 16, 16).expand(-1, 12, -1, -1), fps=8.0)
    (source / "long.txt").write_text("noise")
    (source / "broken.mp4").write_text("none")
    cut = ["cut.frame_size=[16,16]", "cut.size=[4,16,16]", "cut.stride=[4,16,16]"]
    held_out = ["cut.held_out_videos=0.0", "cut.held_out_end=0.4"]
    encode(config("encode", f"source={source}", f"output={tmp_path / 'set'}", "device=cpu", *cut, *held_out))
    printed = capsys.readouterr().out
    assert "skipped broken.mp4: " in printed
    assert "2 videos, 1 skipped, 0 of the others without a caption" in printed
    assert "a picture encoded as frame_zero differs from the video's latents by 0.000 (mean over" in printed
    assert f"data=wan_synth data.root={tmp_path / 'set'} 'schedule.counts=[2]'" in printed  # clips of 4 frames
    metadata = DatasetMetadata.load(tmp_path / "set" / "train")
    assert (metadata.latent_shape, metadata.num_samples) == ((16, 4, 4, 4), 2)
    assert metadata.made_by["settings"]["cut"]["held_out_end"] == 0.4


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cut.buckets=automatic", r"cut\.buckets=automatic"),
        ("cut.buckets=[[81,480]]", r"cut\.buckets=\[\[81, 480\]\]: expected auto, null or different"),
        ("quality.motion=2.5", r"quality\.motion=2\.5: expected a number from 0 to 1"),
        ("quality.dark=1", r"quality\.dark"),
        ("rank=1", r"rank=1: expected world_size=<number>, too"),
        ("batch_size=0", r"batch_size=0: expected at least 1"),
    ],
)
def test_settings_of_encode_that_cannot_be_are_refused_by_name(tmp_path: Path, setting: str, said: str) -> None:
    def checked_and_run() -> None:
        check_config(cfg, EncodeSettings)
        encode(cfg)

    write_mp4(tmp_path / "a.mp4", torch.rand(3, 5, 16, 16), fps=8.0)
    new, places = "+" if "dark" in setting else "", [f"output={tmp_path / 'set'}", f"paths.output_dir={tmp_path}"]
    cfg = config("encode", f"source={tmp_path}", *places, "device=cpu", f"{new}{setting}")
    with pytest.raises((BadValue, Refused), match=said):
        checked_and_run()
    assert not (tmp_path / "set").exists()


def test_two_processes_share_the_work_as_their_settings_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos").mkdir()
    for name in "ab":
        write_mp4(tmp_path / "videos" / f"{name}.mp4", torch.rand(3, 1, 16, 16).expand(-1, 12, -1, -1), fps=8.0)
    shared = [f"source={tmp_path / 'videos'}", f"output={tmp_path / 'set'}", "device=cpu", "videos_per_shard=1"]
    cut = ["cut.frame_size=[16,16]", "cut.size=[4,16,16]", "cut.stride=[4,16,16]"]
    shared += [*cut, "cut.held_out_videos=0.0", "cut.held_out_end=0.4", "world_size=2"]
    encode(config("encode", *shared, "rank=1"))
    assert "process 1 of 2 is done; unfinished chunks of others: 1" in capsys.readouterr().out
    encode(config("encode", *shared, "rank=0"))
    assert (
        f"brightness, motion, sharpness and cuts of the clips: {tmp_path / 'set' / 'report.md'}"
        in capsys.readouterr().out
    )
    assert DatasetMetadata.load(tmp_path / "set" / "train").num_samples == 4


def test_of_pictures_no_command_that_would_be_refused_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, frames in (("train", 5), ("val", 1)):
        (folder := tmp_path / split).mkdir()
        DatasetMetadata(latent_shape=(16, frames, 4, 4), num_samples=2).save(folder)
    tell(tmp_path)
    assert (said := capsys.readouterr().out).count("samples of") == 2
    assert "no refiner can be trained on clips of 1 frame" in said
    assert "next:" not in said
    DatasetMetadata(latent_shape=(16, 2, 4, 4), num_samples=2).save(tmp_path / "val")
    tell(tmp_path)
    assert " -m interp_refiner.train +experiment=gt_keyframes " in capsys.readouterr().out


def test_ctrl_c_is_one_line_that_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    write_mp4(tmp_path / "a.mp4", torch.rand(3, 5, 16, 16), fps=8.0)
    monkeypatch.setattr(VideoEncoder, "write", interrupted)
    with pytest.raises(Stopped, match=r"the same command continues in .*set\.partial") as stopped:
        encode(config("encode", f"source={tmp_path}", f"output={tmp_path / 'set'}", "device=cpu"))
    assert stopped.value.exit_code == 130


@pytest.mark.parametrize("content", [b"", b'{"text": ', b"3", b"[]", b"\xff"])
def test_a_damaged_list_of_prompts_is_refused_by_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prompts.json").write_bytes(content)
    with pytest.raises(BadValue, match=r"^output=.*prompts\.json: expected a file that holds a mapping"):
        embed(config("embed", f"output={tmp_path / 'out'}", "negative=blur"))


def test_embed_writes_every_line_and_the_negative_prompt(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a pale ring\r\n dark\u2028square \n\n", encoding="utf-8")
    embed(config("embed", f"prompts={tmp_path / 'prompts.txt'}", f"output={tmp_path / 'out'}", "negative=blur"))
    said = json.loads((tmp_path / "out" / "prompts.json").read_text())["prompts"]
    assert said == {"00000": "a pale ring", "00001": "dark\u2028square", "negative": "blur"}
    for name, prompt in said.items():
        found = load_embedding(name, tmp_path / "out" / f"{name}.pt")
        assert torch.equal(found, CaptionEncoder().encode([prompt])[0])


def test_embed_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"prompts=.*nowhere.txt: expected a text file .*: no such file"):
        embed(config("embed", f"prompts={tmp_path / 'nowhere.txt'}", f"output={tmp_path / 'out'}"))


@pytest.mark.parametrize("command", ["clip", "shapes", "encode", "embed"])
def test_places_that_cannot_be_written_to_are_refused_before_the_work(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("in the way")
    source = [] if command in ("shapes", "embed") else [f"source={tmp_path}"]
    with pytest.raises(BadValue, match=r"output=.*file/set: expected a writable place: Not a directory"):
        COMMANDS[command](config(command, f"output={tmp_path / 'file' / 'set'}", *source))


def test_embed_names_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(BadValue, match=r"prompts=.*prompts.txt: expected a text file in UTF-8.*can't decode byte 0xe9"):
        embed(config("embed", f"prompts={tmp_path / 'prompts.txt'}", f"output={tmp_path / 'out'}"))


def test_embed_names_a_blank_line_between_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a pale ring\n\n dark square \n")
    with pytest.raises(BadValue, match=r"prompts=.*prompts.txt: expected .* one prompt per line: line 2 is blank"):
        embed(config("embed", f"prompts={tmp_path / 'prompts.txt'}", f"output={tmp_path / 'out'}"))
