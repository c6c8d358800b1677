"""The commands: storyboard to video, its dry run, its mistakes, and the export."""

import copy
import json
import logging
import re
import sys
from dataclasses import replace

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from interp_refiner.assemble import load_pipeline
from interp_refiner.core import BadValue
from interp_refiner.export import export
from interp_refiner.forward.interpolator import InPixels, Linear
from interp_refiner.sample import sample
from interp_refiner.storyboard import INDEX, Components, RefinerPipeline
from interp_refiner.storyboard.saved.components import save_components
from tests.data.codec.test_properties import tone
from tests.storyboard.conftest import program_config


def draw(path, seed: int, size=(24, 16)) -> None:
    pixels = torch.randint(60, 200, (4, 6, 3), generator=torch.Generator().manual_seed(seed)).byte()
    Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def place(tmp_path):
    """A folder with a storyboard of 31 frames: hard keyframes, a proposal, a picture of another size."""
    for number in range(5):
        draw(tmp_path / f"{number}.png", number, (48, 16) if number == 3 else (24, 16))
    entries = [f"  - {{image: {n}.png, time: {t}}}" for n, t in enumerate((0, "25%", 15, "2.875s", 30))]
    entries[1] = entries[1].replace("}", ", strength: 0.5}")
    (tmp_path / "board.yaml").write_text("\n".join(["frames: 31", "fps: 8", "keyframes:", *entries]) + "\n")
    return tmp_path


def config(place, run_folder, *overrides: str):
    board = f"storyboard={place / 'board.yaml'}"
    return program_config("sample", place, f"checkpoint={run_folder}", board, "device=cpu", *overrides)


def test_a_storyboard_becomes_a_video_with_a_sheet_and_a_report(place, run_folder, capsys):
    overrides = ["sampler=bridge", "sampler.steps=2", "also=[gif,frames,latents]", "seed=3"]
    for name in ("one", "two"):
        sample(config(place, run_folder, f"output={place / name / 'out.mp4'}", *overrides))
    for file in ("out.mp4", "out.sheet.png", "out.gif", "out.safetensors", "out.frames/00030.png"):
        assert (place / "one" / file).read_bytes() == (place / "two" / file).read_bytes(), file
    with av.open(str(place / "one" / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = list(container.decode(video=0))
        assert len(frames) == 31
        assert 256 <= min(frames[0].width, frames[0].height) < 512  # small clips are enlarged to be seen
    report = json.loads((place / "one" / "out.report.json").read_text())
    assert [row["frame"] for row in report["keyframes"]] == [0, 8, 15, 23, 30]
    assert [row["exact"] for row in report["keyframes"]] == [True, False, True, True, True]
    assert all(row["psnr"] > 20 for row in report["keyframes"] if row["hard"])
    assert [row["latent_rmse"] == 0 for row in report["keyframes"]] == [True, False, True, True, True]
    assert report["keyframes"][2]["seam_flicker"] > 0
    assert [joint["latent_frames"] for joint in report["joints"]] == [[8, 15], [15, 23]]
    assert report["joints"][0]["disagreement"] > 0
    assert report["settings"]["seed"] == 3
    assert report["settings"]["steps"] == 2
    assert "keyframes[3] 3.png is 48x16, the video 24x16: crop" in report["notes"]
    assert load_file(place / "one" / "out.safetensors")["latents"].shape == (16, 31, 4, 6)
    assert "out.report.json" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan_and_writes_nothing(place, run_folder, capsys):
    before = sorted(place.rglob("*"))
    sample(config(place, run_folder, "dry_run=true"))
    printed = capsys.readouterr().out
    assert sorted(place.rglob("*")) == before
    assert "31 frames at 8 per second, latents 16 x 31 x 4 x 6" in printed
    assert "window 1: latent frames 8-23" in printed
    assert "note: keyframes[3] 3.png is 48x16, the video 24x16: crop" in printed
    assert re.search(r"about \d+\.\d s and \d+\.\d GB on cpu: .* passes of the refiner, \d+\.\d s of decoding", printed)


def test_names_are_what_they_are_and_sound_is_carried_over(place, run_folder, capsys):
    name = "take:1 [/b] c.mp4"  # in a folder, whose name has a bracket, too
    take, output = place / name, place / "2026-01-01T12:30:00 [x].mp4"
    take.parent.mkdir()
    tone(take)
    board = [{"clip": name, "time": 0, "sound": True}, {"image": "4.png", "time": 30}]
    (place / "board.yaml").write_text(json.dumps({"frames": 31, "fps": 8, "keyframes": board}))
    sample(config(place, run_folder, f"output='{output}'"))
    with av.open(str(output)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    report = json.loads(output.with_suffix(".report.json").read_text())
    assert not any("sound" in note for note in report["notes"])
    printed = capsys.readouterr().out
    for shown in (name, output.name):
        assert shown in printed.replace("\n", "")


def test_a_dry_run_of_a_large_video_computes_nothing_of_its_size(place, run_folder, capsys, monkeypatch):
    """The cost is told from shapes: no tensor is larger than what the model was trained on asks for."""
    text = (place / "board.yaml").read_text()
    (place / "board.yaml").write_text(f"width: 4096\nheight: 4096\n{text}")
    with Largest() as seen:
        sample(config(place, run_folder, "dry_run=true"))
    assert seen.numel < 10**7  # the video has 1.6 * 10^9
    printed = capsys.readouterr().out
    found = re.search(r"about ([\d.]+) s and ([\d.]+) GB on cpu", printed)
    assert float(found[2]) > 31 * 4096 * 4096 * 12 / 2**30
    (place / "board.yaml").write_text(text)
    sample(config(place, run_folder, "dry_run=true"))
    small = re.search(r"about ([\d.]+) s and", capsys.readouterr().out)
    assert float(found[1]) > 1000 * float(small[1])


class Largest(TorchDispatchMode):
    """The elements of the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [
            tensor.untyped_storage().nbytes() // 4 for tensor in tree_iter(made) if isinstance(tensor, torch.Tensor)
        ]
        self.numel = max([self.numel, *sizes])
        return made


def test_a_dry_run_shows_collisions_before_it_refuses_them(place, run_folder, capsys):
    text = (place / "board.yaml").read_text().replace("time: 30", "time: 50%")
    (place / "board.yaml").write_text(text)
    with pytest.raises(BadValue, match=r"storyboard\.keyframes\[4\]\.time=50%: expected a latent slot of its own"):
        sample(config(place, run_folder, "dry_run=true"))
    assert "collides with keyframe 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2.png", "gone.png", r"storyboard\.keyframes\[2\]\.image=.*gone\.png: .*no such file"),
        ("time: 30", "time: 31", r"storyboard\.keyframes\[4\]\.time=31: expected a frame from 0 to 30"),
        ("time: 30", "time: 15", r"storyboard\.keyframes\[4\]\.time=15: expected a latent slot of its own"),
        ("fps: 8", "fsp: 8", r"fsp=8: expected a known key.*did you mean 'fps'"),
        ("fps: 8", "width: 30", r"storyboard\.width=30: expected a multiple of 8"),
        (
            "frames: 31",
            "frames: 300",
            r"storyboard\.keyframes=a gap of 224 after latent frame 75: expected keyframes at most 20",
        ),
    ],
)
def test_mistakes_in_a_storyboard_name_the_entry_and_write_nothing(place, run_folder, old, new, said):
    (place / "board.yaml").write_text((place / "board.yaml").read_text().replace(old, new))
    before = sorted(place.rglob("*"))
    with pytest.raises(BadValue, match=said):
        sample(config(place, run_folder, f"output={place / 'out' / 'out.mp4'}"))
    assert sorted(place.rglob("*")) == before


def test_a_setting_is_no_entry_of_the_storyboard(place, run_folder, monkeypatch):
    def refuse(*_, **__):
        raise BadValue("sampler.guidance", "classifier_free", "none")

    monkeypatch.setattr("interp_refiner.storyboard.sampling.video.read_board", refuse)
    with pytest.raises(BadValue, match=r"^sampler\.guidance=classifier_free: "):
        sample(config(place, run_folder, f"output={place / 'out' / 'out.mp4'}"))


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(place, run_folder):
    before = sorted(place.rglob("*"))
    with pytest.raises(BadValue, match=r"output=.*a writable place: Not a directory"):
        sample(config(place, run_folder, f"output={place / 'board.yaml' / 'out.mp4'}"))
    with pytest.raises(BadValue, match=r"output=.*a writable place: Not a directory"):
        export(program_config("export", place, f"checkpoint={run_folder}", f"output={place / 'board.yaml' / 'out'}"))
    assert sorted(place.rglob("*")) == before


@pytest.fixture
def command(place, monkeypatch, capfd):
    """Runs the program in this process as its command line does, in ``place``: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["sample", *arguments])
        for name in ("CACHE", "LOGS", "DATA"):
            monkeypatch.setenv(f"INTERP_REFINER_{name}", str(place / name.lower()))
        logging.root.handlers.clear()  # Hydra's last handlers write to the stdout of the test before
        capfd.readouterr()
        code = 0
        try:
            sample()
        except SystemExit as end:
            code = end.code
        return (code, *capfd.readouterr())

    yield run
    logging.root.handlers.clear()  # their files lie in a folder that goes with this test


def test_a_bad_storyboard_ends_the_command_with_one_line_and_writes_nothing(place, run_folder, command):
    text = (place / "board.yaml").read_text()
    (place / "board.yaml").write_text(text.replace("2.png", "gone.png"))
    before = sorted(place.rglob("*"))
    board = [f"checkpoint={run_folder}", "storyboard=board.yaml", "output=new/out.mp4", "device=cpu"]
    code, _, told = command(*board)
    assert code == 2
    assert told.splitlines()[-1].startswith("storyboard.keyframes[2].image=")
    assert "no such file" in told.splitlines()[-1]
    assert sorted(place.rglob("*")) == before
    (place / "board.yaml").write_text(text)
    before = sorted(place.rglob("*"))
    code, printed, told = command(*board, "dry_run=true")
    assert code == 0, told
    assert "passes of the refiner" in printed
    assert sorted(place.rglob("*")) == before


def test_prompts_of_a_storyboard_count_on_the_command_line(place, run_folder):
    text = (place / "board.yaml").read_text()
    prompts = "prompt: dark square moving left\nnegative_prompt: dim circle\n"
    segment = text.replace("time: 15}", "time: 15, prompt: bright ring moving up}")
    boards = {"none": text, "prompt": prompts + text, "segment": prompts + segment}
    guidance = ["sampler=one_jump", "sampler/guidance=classifier_free", "sampler.guidance.scale=4.0"]
    latents, notes = {}, {}
    for name, board, chosen in (
        *((name, board, []) for name, board in boards.items()),
        ("guided", boards["segment"], guidance),
    ):
        (place / "board.yaml").write_text(board)
        output = place / name / "out.mp4"
        sample(config(place, run_folder, f"output={output}", "also=[latents]", *chosen))
        latents[name] = load_file(output.with_suffix(".safetensors"))["latents"]
        notes[name] = json.loads(output.with_suffix(".report.json").read_text())["notes"]
    for name, other in (("none", "prompt"), ("prompt", "segment"), ("segment", "guided")):
        assert not torch.allclose(latents[name], latents[other])
    assert torch.equal(latents["prompt"][:, :8], latents["segment"][:, :8])
    ineffective = "negative_prompt has no effect without guidance"
    assert [any(ineffective in note for note in notes[name]) for name in ("none", "segment", "guided")] == [0, 1, 0]


def test_prompts_that_a_distilled_model_does_not_understand_are_noted(place, capsys):
    """Not with the advice to add guidance, which a distilled model does not take."""
    prompts = "prompt: a red ring moving up\nnegative_prompt: dim circle\n"
    (place / "board.yaml").write_text(prompts + (place / "board.yaml").read_text())
    sample(config(place, "shipped_one_step", "dry_run=true"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "note: negative_prompt has no effect with a distilled model: it learned its teacher's guidance" in printed
    assert "classifier_free" not in printed
    assert "note: prompt: no training caption has a, red note: the model knows the words dark," in printed


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "output=None: expected the name of the video"),
        (["output=out.avi"], r"output=out\.avi: expected a file name that ends in \.mp4"),
        (["output=out.mp4", "also=[mov]"], r"also=mov: expected gif \| frames \| latents"),
        (["output=out.mp4", "upscale=0"], "upscale=0: expected at least 1, or null"),
        (["output=out.mp4", "storyboard=null"], "storyboard=None: expected a YAML or JSON file"),
        (["output=out.mp4", "checkpoint=nowhere"], r"checkpoint=.*nowhere: expected a run folder"),
    ],
)
def test_mistakes_on_the_command_line_are_named(place, run_folder, overrides, said):
    with pytest.raises(BadValue, match=said):
        sample(config(place, run_folder, *overrides))


@pytest.mark.parametrize(
    ("source", "output", "also"),
    [
        ("board.yaml", "link.mp4", ""),
        ("out.report.json", "out.mp4", ""),
        ("out.sheet.png", "out.mp4", ""),
        ("take.mp4", "take.mp4", ""),
        ("turn.gif", "below/../turn.mp4", "gif"),
        ("out.frames/9.png", "out.mp4", "frames"),
    ],
)
def test_nothing_that_a_video_is_made_of_is_replaced(place, run_folder, source, output, also):
    (place / "below").mkdir()
    (place / "out.frames").mkdir()
    board, text = place / "board.yaml", (place / "board.yaml").read_text()
    if source == "out.report.json":
        board.rename(board := place / source)
        entries = [{"image": f"{number}.png", "time": 8 * number} for number in range(3)]
        board.write_text(json.dumps({"frames": 31, "keyframes": entries}))
    elif source == "board.yaml":
        (place / "link.sheet.png").hardlink_to(board)
    else:
        (place / "0.png").rename(place / source)
        key = "image" if source.endswith("png") else "clip"
        board.write_text(text.replace("image: 0.png", f"{key}: {source}"))
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    settings = [f"checkpoint={run_folder}", f"storyboard={board}", f"also=[{also}]", f"output={place / output}"]
    with pytest.raises(
        BadValue, match=r"output=.*\.mp4: expected another name.*(would be replaced|is there|which exists)"
    ):
        sample(program_config("sample", place, "device=cpu", *settings))
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before


def test_nothing_of_an_exported_folder_is_replaced(place, run_folder):
    folder = place / "exported"
    export(program_config("export", place, f"checkpoint={run_folder}", f"output={folder}"))
    with pytest.raises(BadValue, match=r"this video reads .*refiner\.safetensors, which would be replaced"):
        sample(config(place, folder, f"output={folder / 'refiner.mp4'}", "also=[latents]"))


def test_an_exported_folder_makes_the_same_video(place, run_folder, capsys):
    folder = place / "exported"
    export(program_config("export", place, f"checkpoint={run_folder}", f"output={folder}"))
    assert f"checkpoint={folder}" in capsys.readouterr().out
    videos = []
    for name, checkpoint in (("run", run_folder), ("folder", folder)):
        sample(config(place, checkpoint, f"output={place / name / 'out.mp4'}", "sampler=bridge", "also=[latents]"))
        videos.append((place / name / "out.safetensors").read_bytes())
    assert videos[0] == videos[1]
    stored = json.loads((folder / INDEX).read_text())
    assert stored["components"]["text"] == {"_target_": "interp_refiner.data.text.declared_text_encoder"}
    assert stored["spec"]["text"]["name"] == "caption"
    with pytest.raises(BadValue, match=r"text=caption: expected embeddings \[.*\] as in training, not \[3, 32\]"):
        sample(config(place, folder, "output=out.mp4", "text=caption", "text.length=3"))
    with pytest.raises(BadValue, match=r"output=.*exported: expected a new or empty folder"):
        export(program_config("export", place, f"checkpoint={run_folder}", f"output={folder}"))
    with pytest.raises(BadValue, match=r"storyboard=None: .*an exported folder has no held-out clips"):
        sample(program_config("sample", place, f"checkpoint={folder}"))


def test_interpolation_in_pixels_uses_the_codec_chosen(pipe, place):
    folder = place / "exported"
    parts = Components(pipe.backbone, pipe.objective, pipe.sampler, copy.copy(pipe.corruption), pipe.codec, pipe.text)
    parts.corruption.interpolator = InPixels(Linear(), pipe.codec)
    components = copy.deepcopy(pipe.config.components)
    components["corruption"]["interpolator"] = {
        "_target_": "interp_refiner.forward.interpolator.InPixels",
        "inner": {"_target_": "interp_refiner.forward.interpolator.Linear"},
    }
    save_components(parts, replace(pipe.config, components=components), folder)
    std = [2.0 * value for value in pipe.codec.latents_std.tolist()]
    own = load_pipeline(folder, config(place, folder))
    other = load_pipeline(
        folder, config(place, folder, "codec=patch_dct", f"codec.latents_mean={[0.0] * 16}", f"codec.latents_std={std}")
    )
    for made, factor in ((own, 1), (other, 2)):
        (codec,) = made.corruption.interpolator._codec
        torch.testing.assert_close(codec.latents_std, factor * pipe.codec.latents_std)
        torch.testing.assert_close(made.codec.latents_std, codec.latents_std)


def test_another_codec_keeps_the_statistics_of_the_latents(place, run_folder):
    folder = place / "exported"
    export(program_config("export", place, f"checkpoint={run_folder}", f"output={folder}"))
    own = load_pipeline(folder, config(place, folder)).codec
    chosen = load_pipeline(folder, config(place, folder, "codec=patch_dct"))
    assert not torch.allclose(own.latents_std, torch.ones(16))
    assert torch.equal(chosen.codec.latents_std, own.latents_std)
    assert torch.equal(chosen.codec.latents_mean, own.latents_mean)
    again = RefinerPipeline.from_pretrained(chosen.save_pretrained(place / "again")).codec
    assert torch.equal(again.latents_std, own.latents_std)
