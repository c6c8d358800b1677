"""Keyframes of a prompt as a storyboard with pictures, from which the refiner can continue."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from interp_refiner.core import BadValue
from interp_refiner.prepare import keyframes
from interp_refiner.sample import sample
from interp_refiner.storyboard import load_storyboard
from tests.storyboard.conftest import program_config
from tests.storyboard.pipeline.test_pipeline import PROMPT


def config(program, folder, run_folder, generator_folder, *overrides):
    named = [f"checkpoint={run_folder}", f"keyframes={generator_folder}", "device=cpu", "keyframe_sampler.steps=2"]
    return program_config(program, folder, *named, *overrides)


@pytest.fixture
def asked(tmp_path, run_folder, generator_folder):
    def make(program, *overrides):
        return config(program, tmp_path, run_folder, generator_folder, *overrides)

    return make


def test_the_pictures_are_the_keyframes_and_the_refiner_goes_on_from_them(asked, tmp_path, run_folder, capsys):
    keyframes(asked("prepare/keyframes", f"prompt={PROMPT}", "keyframes_at=[0,50%,100%]", f"output={tmp_path / 'k'}"))
    assert f"storyboard={tmp_path / 'k' / 'board.yaml'}" in capsys.readouterr().out.replace("\n", "")
    board = load_storyboard(tmp_path / "k" / "board.yaml")
    assert (board.prompt, board.frames) == (PROMPT, 21)
    # a refiner of true keyframes keeps them
    assert [(e.image, e.time, e.strength) for e in board.keyframes] == [
        (f"{frame:05d}.png", frame, 1.0) for frame in (0, 10, 20)
    ]
    assert Image.open(tmp_path / "k" / "00010.png").size == (24, 16)
    assert Image.open(tmp_path / "k" / "sheet.png").width > 21 * 24
    latents = {}
    for name, overrides in (
        ("direct", [f"prompt={PROMPT}", "keyframes_at=[0,50%,100%]"]),
        ("board", [f"storyboard={tmp_path / 'k' / 'board.yaml'}"]),
    ):
        sample(asked("sample", *overrides, f"output={tmp_path / name}.mp4", "also=[latents,frames]"))
        latents[name] = load_file(tmp_path / f"{name}.safetensors")["latents"]
        frame = Image.open(tmp_path / f"{name}.frames" / "00010.png")
        assert abs(pixels(frame) - pixels(Image.open(tmp_path / "k" / "00010.png"))).max() <= 1
    seen = [pixels(Image.open(tmp_path / f"{name}.frames" / "00005.png")) for name in latents]
    assert abs(seen[0] - seen[1]).mean() < 2  # of 255: pictures are rounded to bytes, and cut at black and white


def pixels(image):
    return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).float()


def test_a_storyboard_keeps_its_own_and_gets_those_it_lacks(asked, tmp_path):
    picture = Image.effect_noise((24, 16), 60).convert("RGB")
    picture.save(tmp_path / "mine.png")
    content = {"prompt": PROMPT, "keyframes": [{"image": "mine.png", "time": 0}], "keyframes_at": ["0%", "100%"]}
    (tmp_path / "board.json").write_text(json.dumps(content))
    keyframes(asked("prepare/keyframes", f"storyboard={tmp_path / 'board.json'}", f"output={tmp_path / 'k'}"))
    board = load_storyboard(tmp_path / "k" / "board.yaml")
    assert [Path(e.image).name for e in board.keyframes] == ["mine.png", "00020.png"]
    assert board.keyframes[0].strength is None
    assert board.files[0] == tmp_path / "mine.png"
    assert board.keyframes_at is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["output={}/new"], "prompt=None: expected what the video shows, or storyboard=<file>"),
        (["prompt=a", "output={}"], "output=.*: expected a new or empty folder"),
        (["prompt=a", "output={}/new", "keyframes=null"], "expected null, because no generator makes keyframes"),
        (["prompt=a", "output={}/new", "keyframes_at=[30]"], r"keyframes_at\[0\]=30: expected a frame from 0 to 20"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(asked, tmp_path, overrides, said):
    (tmp_path / "there").touch()
    with pytest.raises(BadValue, match=said):
        keyframes(asked("prepare/keyframes", *(override.format(tmp_path) for override in overrides)))
    assert not (tmp_path / "new").exists()
