"""A keyframe generator: found, stored alone and inside a refiner's folder, refused if it does not fit."""

import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from interp_refiner.assemble import load_phase1, load_pipeline
from interp_refiner.core import BadValue
from interp_refiner.data.world import CaptionScorer
from interp_refiner.data.world.reader import CaptionReader
from interp_refiner.data.world.scorer import save_reader
from interp_refiner.evaluate import evaluate
from interp_refiner.export import export
from interp_refiner.model.keyframes import BestOf, Choice, Euler, OwnSampler, Rescaled
from interp_refiner.storyboard import INDEX, Phase1, RefinerPipeline, load_generator
from interp_refiner.storyboard.pipeline.chosen import with_samples
from interp_refiner.storyboard.saved.generator import GENERATOR, WEIGHTS, save_generator
from tests.factories import spec_of
from tests.storyboard.conftest import program_config
from tests.storyboard.pipeline.test_pipeline import PROMPT, same_bits
from tests.storyboard.sampling.test_program import command, place  # noqa: F401 - fixtures
from tests.storyboard.sources import Told


def chosen(folder, *overrides):
    return program_config("sample", folder, "device=cpu", "keyframe_sampler.steps=2", *overrides)


@pytest.fixture(scope="module")
def exported(run_folder, generator_folder, tmp_path_factory):
    """The generator alone, and a refiner with it."""
    folder = tmp_path_factory.mktemp("exported")
    alone, both = folder / "alone", folder / "both"
    export(program_config("export", folder, f"checkpoint={generator_folder}", f"output={alone}"))
    export(program_config("export", folder, f"checkpoint={run_folder}", f"keyframes={generator_folder}",
                          f"output={both}"))  # fmt: skip
    return alone, both


def video(checkpoint, *overrides, folder):
    pipeline = load_pipeline(checkpoint, chosen(folder, f"checkpoint={checkpoint}", *overrides))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, pipeline(PROMPT, generator=3).latents


def test_a_run_an_exported_folder_and_a_refiner_that_carries_it_make_the_same_video(
    run_folder, generator_folder, exported, tmp_path
):
    alone, both = exported
    pipeline, made = video(run_folder, f"keyframes={generator_folder}", folder=tmp_path)
    assert pipeline.phase1.source.sampler.steps == 2
    assert isinstance(pipeline.phase1.asked, Rescaled)  # other clips, other statistics
    for checkpoint, keyframes in ((run_folder, alone), (run_folder, both), (both, both), (both, None)):
        named = [f"keyframes={keyframes}"] if keyframes is not None else []
        assert same_bits(video(checkpoint, *named, folder=tmp_path)[1], made)
    again = RefinerPipeline.from_pretrained(both)
    assert again.phase1.source.sampler.steps == 3  # its own, as it was trained with
    again.set_progress_bar_config(disable=True)
    again.phase1 = again.phase1.with_sampler(pipeline.phase1.source.sampler, {}).of_clips(again.config.spec)
    assert same_bits(again(PROMPT, generator=3).latents, made)


def test_weights_of_half_the_size_are_the_same_but_for_their_rounding(generator_folder, exported, tmp_path):
    half = tmp_path / "half"
    export(program_config("export", tmp_path, f"checkpoint={generator_folder}", f"output={half}", "dtype=float16"))
    whole, rounded = (load_generator(folder).source for folder in (exported[0], half))
    pairs = zip(whole.network.state_dict().values(), rounded.network.state_dict().values(), strict=True)
    for exact, stored in pairs:
        assert stored.dtype == exact.dtype
        torch.testing.assert_close(stored, exact, rtol=2**-10, atol=1e-6)
    bytes_of = [sum(f.stat().st_size for f in folder.rglob("*.safetensors")) for folder in (exported[0], half)]
    assert bytes_of[1] < 0.7 * bytes_of[0]


def test_the_folder_has_a_transformer_of_diffusers_and_a_card(exported, generator_folder):
    alone, both = exported
    weights = load_phase1(generator_folder).source.network.wan.state_dict()
    for folder in (alone, both / GENERATOR):
        stored = WanTransformer3DModel.from_pretrained(folder / "transformer").state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in stored.items())
        card = (folder / "README.md").read_text()
        assert "pipeline_tag: text-to-video" in card
        assert "| sampler | Heun, 3 steps |" in card
        assert "| experiment | keyframes |" in card
    assert json.loads((both / INDEX).read_text())[GENERATOR] == f"./{GENERATOR}"
    card = (both / "README.md").read_text()
    assert "## Keyframes from a prompt" in card
    assert "| experiment | toy_video |" in card
    assert "| experiment | keyframes |" in card
    assert "keyframes/" not in RefinerPipeline.from_pretrained(both).phase1.trained


def test_the_sampler_of_an_export_can_be_another(generator_folder, run_folder, tmp_path):
    named = [f"checkpoint={run_folder}", f"keyframes={generator_folder}", f"output={tmp_path / 'out'}"]
    export(program_config("export", tmp_path, *named, "keyframe_sampler=euler", "keyframe_sampler.steps=7"))
    sampler = RefinerPipeline.from_pretrained(tmp_path / "out").phase1.source.sampler
    assert isinstance(sampler, Euler)
    assert sampler.steps == 7


def test_the_best_of_several_samples_is_chosen_by_the_words_of_the_prompt(exported, tmp_path, monkeypatch):
    choice = ["keyframe_choice=caption_reader", "keyframe_choice.candidates=3"]
    pipeline, made = video(exported[1], *choice, folder=tmp_path)
    source, scorer = pipeline.phase1.chosen(pipeline.codec), CaptionScorer()
    assert isinstance(source, BestOf)
    seen = {}

    def watched(self, request, draws):
        seen[draws.stream] = keyframes = own(self, request, draws)
        return keyframes

    own = Rescaled.__call__
    monkeypatch.setattr(Rescaled, "__call__", watched)
    again = pipeline(PROMPT, generator=3)
    assert same_bits(again.latents, made)
    assert list(seen) == ["keyframes", "keyframes_candidate_2", "keyframes_candidate_3"]
    scores = [scorer(pipeline.codec.decode(keyframes), [PROMPT]).item() for keyframes in seen.values()]
    best = list(seen.values())[scores.index(max(scores))]
    slots = [placed.slots.start for placed in again.plan.placed]
    assert scores.index(max(scores)) != 0
    assert torch.equal(made[:, :, slots], best)


def test_a_folder_carries_the_choice_with_its_own_weights(generator_folder, run_folder, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "mine.safetensors"
    save_reader(reader := CaptionReader(net=True), file)
    choice = [
        "keyframe_choice=caption_reader",
        "keyframe_choice.candidates=2",
        f"keyframe_choice.scorer.weights={file}",
    ]
    alone, both, again = (tmp_path / name for name in ("alone", "both", "again"))
    export(program_config("export", tmp_path, f"checkpoint={generator_folder}", f"output={alone}", *choice))
    file.unlink()
    export(program_config("export", tmp_path, f"checkpoint={run_folder}", f"keyframes={alone}", f"output={both}"))
    RefinerPipeline.from_pretrained(both).save_pretrained(again)
    assert "| choice | best of 2 samples by CaptionScorer |" in (alone / "README.md").read_text()
    RefinerPipeline.from_pretrained(both).save_pretrained(both)
    for folder in (alone, both, again):
        loaded = load_generator(folder).choice
        assert loaded.candidates == 2
        stored = loaded.scorer.reader.state_dict()
        assert all(torch.equal(stored[name], value) for name, value in reader.state_dict().items())
        assert str(tmp_path) not in "".join(index.read_text() for index in folder.rglob(INDEX))


def test_a_scorer_of_a_user_is_used_but_not_stored(generator_folder, tmp_path):
    phase1 = load_phase1(generator_folder).with_choice(
        Choice(lambda pictures, prompts: pictures.mean((1, 2, 3, 4)), 2), {}
    )
    assert isinstance(phase1.choice.among(phase1.source, torch.abs), BestOf)
    with pytest.raises(BadValue, match=r"keyframe_choice\.scorer=function: expected a scorer of this package"):
        save_generator(phase1, tmp_path / "out")


@pytest.mark.parametrize("change", ["missing", "foreign", "other size", "half a file"])
def test_weights_that_do_not_fit_are_refused(exported, generator_folder, tmp_path, change):
    folder = tmp_path / "damaged"
    folder.mkdir(parents=True, exist_ok=True)
    for file in exported[0].iterdir():
        if file.name != WEIGHTS:
            (folder / file.name).symlink_to(file)
    weights = load_file(exported[0] / WEIGHTS)
    name = sorted(weights)[0]
    if change == "missing":
        del weights[name]
    elif change == "foreign":
        weights["zzz"] = torch.ones(1)
    elif change == "other size":
        weights[name] = torch.ones(*weights[name].shape, 2)
    save_file(weights, folder / WEIGHTS)
    if change == "half a file":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    said = {"missing": f"{name} is missing", "foreign": "zzz is unknown", "other size": rf"{name} is \["}
    with pytest.raises(
        BadValue, match=f"keyframes=.*{WEIGHTS}: expected .*{said.get(change, 'a complete .safetensors')}"
    ):
        load_generator(folder)


def test_a_refiner_is_no_generator_and_a_generator_no_refiner(run_folder, generator_folder, exported, pipe, tmp_path):
    refiner = pipe.save_pretrained(tmp_path / "refiner")
    for keyframes, said in (
        (run_folder, "keyframes=.*: expected a run of .experiment=keyframes, not one of Refiner"),
        (refiner, "keyframes=.*: expected a keyframe generator: this exported refiner has none"),
        (tmp_path / "nothing", "keyframes=.*nothing: expected a run folder"),
        ("shiped", "keyframes=shiped: expected .*; did you mean 'shipped'"),
    ):
        with pytest.raises(BadValue, match=said):
            load_phase1(keyframes)
    for checkpoint, said in (
        (generator_folder, "checkpoint=.*: expected a refiner; this is a keyframe generator"),
        (exported[0], "checkpoint=.*: expected an exported refiner, this is a KeyframeGenerator: keyframes=<it>"),
    ):
        with pytest.raises(BadValue, match=said):
            load_pipeline(checkpoint, chosen(tmp_path, f"checkpoint={checkpoint}"))


SCORER = "interp_refiner.data.world.CaptionScorer"


def chosen_by(scorer, candidates=2):
    """The node of a choice."""
    return {"_target_": "interp_refiner.model.keyframes.Choice", "candidates": candidates, "scorer": scorer}


FROM_STRANGERS = {
    "other code": (
        "flow",
        {"_target_": "os.system", "command": "true"},
        "_target_=os.system: expected KeyframeFlow of",
    ),
    "another name": ("more", {}, r"components=more: expected network \| flow \| sampler"),
    "no choice": ("choice", None, r"components\.choice=NoneType: expected a Choice"),
    "a list": ("choice", [], r"components\.choice=list: expected a Choice"),
    "no scorer": ("choice", chosen_by("x"), r"components\.scorer=x: expected "),
    "a number for a file": ("choice", chosen_by({"_target_": SCORER, "weights": 7}), r"weights=7: expected a string"),
    "a word for a number": ("choice", chosen_by({"_target_": SCORER, "oddity": "a"}), r"oddity=a: expected a number"),
    "a word for a count": ("choice", chosen_by(None, "8"), r"components\.candidates=.*8.*: expected an integer"),
    "a list for a count": ("choice", chosen_by(None, [2]), r"components\.candidates=\[2\]: expected an integer"),
    "nothing for a count": ("choice", chosen_by(None, None), r"components\.candidates=null: expected an integer"),
    "a mapping for a part": ("choice", chosen_by({"weights": "x"}), r"components\.scorer=.*a node with _target_"),
    "half a sample": ("choice", chosen_by(None, 2.5), r"components\.candidates=2\.5: expected an integer"),
}


@pytest.mark.parametrize("case", FROM_STRANGERS)
def test_a_folder_from_a_stranger_runs_nothing_but_components(exported, tmp_path, case):
    name, node, said = FROM_STRANGERS[case]
    strange(exported[0], tmp_path, name, node)
    with pytest.raises(BadValue, match=said):
        load_generator(tmp_path)


def test_a_component_of_another_kind_is_refused(exported, tmp_path):
    time = json.loads((exported[0] / INDEX).read_text())["components"]["flow"]["time"]
    strange(exported[0], tmp_path, "sampler", time)
    with pytest.raises(BadValue, match=r"_target_=.*FlowTime: expected KeyframeSampler of"):
        load_generator(tmp_path)


def strange(exported, folder, name, node):
    """Writes an exported folder with another component."""
    index = json.loads((exported / INDEX).read_text())
    (folder / "transformer").symlink_to(exported / "transformer")
    (folder / INDEX).write_text(json.dumps({**index, "components": {**index["components"], name: node}}))


def test_a_generator_of_other_clips_is_refused(generator_folder, exported, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir(parents=True, exist_ok=True)
    for file in exported[0].iterdir():
        if file.name != INDEX:
            (folder / file.name).symlink_to(file)
    index = json.loads((exported[0] / INDEX).read_text())
    index["spec"]["latent_shape"][1] = 25
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(BadValue, match=r"keyframes=\[16, 25, 4, 6\]: expected a source of clips \[16, 21, 4, 6\]"):
        video(exported[1], f"keyframes={folder}", folder=tmp_path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("keyframe_choice=caption_reader", "keyframe_choice=caption_reader: expected null"),
        ("keyframe_sampler.steps=5", r"keyframe_sampler\.steps=5: expected null"),
        ("keyframe_sampler=heun", r"keyframe_sampler=heun\(.*\): expected own"),
    ],
)
def test_settings_of_a_generator_without_one_are_refused(run_folder, tmp_path, setting, said):
    with pytest.raises(BadValue, match=f"^{said}, because no generator makes keyframes"):
        video(run_folder, setting, folder=tmp_path)


@pytest.mark.parametrize("sampler", [Euler(), OwnSampler(steps=5)])
def test_a_source_with_its_own_scheduler_takes_no_sampler(sampler):
    node = {"_target_": f"interp_refiner.model.keyframes.{type(sampler).__name__}", "steps": sampler.steps}
    with pytest.raises(BadValue, match=r"^keyframe_sampler(\.steps)?=.*: expected (own|null), because this keyframe"):
        with_samples(Phase1(Told(), spec_of()), OmegaConf.create({"keyframe_sampler": node}))


def test_an_exported_generator_keeps_its_sampler_unless_a_setting_is_replaced(run_folder, generator_folder, tmp_path):
    folder, own = (
        tmp_path / "own",
        ["keyframe_sampler=euler", "keyframe_sampler.steps=7", "keyframe_sampler.guidance=3.0"],
    )
    source = [f"checkpoint={run_folder}", f"keyframes={generator_folder}", f"output={folder}"]
    export(program_config("export", tmp_path, *source, *own))

    def sampler(*overrides: str) -> str:
        cfg = program_config("sample", tmp_path, f"checkpoint={folder}", *overrides)
        return repr(load_pipeline(folder, cfg).phase1.source.sampler)

    assert sampler() == "euler(steps=7, guidance=3, shift=4, rounds=1)"
    assert sampler("keyframe_sampler.steps=2") == "euler(steps=2, guidance=3, shift=4, rounds=1)"
    assert sampler("keyframe_sampler=heun") == "heun(steps=20, guidance=2, shift=4, rounds=1)"


def test_two_sources_are_one_too_many(exported, tmp_path):
    two = [f"keyframes={exported[0]}", "keyframe_source=wan_t2v", "keyframe_source.folder=nowhere"]
    with pytest.raises(BadValue, match=r"keyframes=.*: expected null, because keyframe_source"):
        video(exported[1], *two, folder=tmp_path)


def test_a_prompt_on_the_command_line_becomes_a_video(exported, command, tmp_path):  # noqa: F811
    checkpoint = [f"checkpoint={exported[1]}", "device=cpu", "keyframe_sampler.steps=2"]
    code, printed, told = command(*checkpoint, f"prompt={PROMPT}", "output=out.mp4", "keyframes_at=[0,50%,100%]")
    assert code == 0, told
    assert "generated" in printed
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert [row["frame"] for row in report["keyframes"]] == [0, 10, 20]
    assert all(row["generated"] and not row["hard"] for row in report["keyframes"])
    assert report["storyboard"] is None
    assert report["settings"]["keyframes_from"] == "generated(heun(steps=2, guidance=2, shift=4, rounds=1))"
    assert report["settings"]["prompt"] == PROMPT
    code, printed, told = command(*checkpoint, f"prompt={PROMPT}", "frames=31", "dry_run=true")
    assert code == 0, told
    assert "31 frames at 8 per second" in printed
    assert "12 passes of the keyframe generator" in printed  # two windows, 3 velocities of Heun's, guidance doubles
    best = ["keyframe_choice=caption_reader", "keyframe_choice.candidates=3"]
    code, printed, told = command(*checkpoint, *best, f"prompt={PROMPT}", "frames=31", "dry_run=true")
    assert code == 0, told
    assert "36 passes of the keyframe generator" in printed


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["keyframes={}"], "prompt=None: expected what the video shows, or storyboard=<file>"),
        (["prompt=", "keyframes={}"], "prompt=: expected what the video shows"),
        (["prompt=a", "keyframes_at=[0,120%]"], "keyframes_at[1]=120%: expected 0% to 100%"),
        (["prompt=a", "storyboard=board.yaml"], "prompt=a: expected null with a storyboard, which has its own"),
        (["prompt=a", "keyframe_sampler.steps=0"], "keyframe_sampler.steps=0: expected at least 1"),
        (["prompt=a", "keyframes=nothing/there"], "keyframes="),
        (
            ["prompt=a", "keyframe_choice.candidates=3"],
            "keyframe_choice.candidates=3: no keyframe_choice is chosen; add keyframe_choice=",
        ),
        (
            ["prompt=a", "keyframe_choice=first", "keyframe_choice.candidates=3"],
            "keyframe_choice.candidates=3: expected 1 without a scorer",
        ),
        (
            ["prompt=a", "keyframe_choice=caption_reader", "keyframe_choice.scorer.weights=nothing.safetensors"],
            "keyframe_choice.scorer.weights=nothing.safetensors: expected a file with a caption reader's weights",
        ),
        (["prompt=a", "frames=0"], "frames=0: expected greater than 0"),
    ],
)
def test_mistakes_end_the_command_with_one_line(exported, command, tmp_path, overrides, said):  # noqa: F811
    before = sorted(tmp_path.rglob("*"))
    named = [override.format(exported[0]) for override in overrides]
    code, _, told = command(f"checkpoint={exported[1]}", "output=new/out.mp4", "device=cpu", *named)
    assert code == 2
    assert told.splitlines()[-1].startswith(said)
    assert sorted(tmp_path.rglob("*")) == before


def test_its_keyframes_are_judged_beside_true_and_mixed_ones(generator_folder, run_folder, tmp_path, capsys):
    size = ["clips=8", "training_clips=8", "keyframes=4", "probe_steps=1", "batch_size=8"]
    quick = [*(f"keyframe_quality.{name}" for name in size), "keyframe_sampler.steps=1", "device=cpu"]
    quick += ["keyframe_choice=caption_reader", "keyframe_choice.candidates=2"]
    (tmp_path / "evaluate").mkdir()
    evaluate(program_config("evaluate", tmp_path, f"checkpoint={generator_folder}", *quick))
    assert "keyframes.png" in capsys.readouterr().out
    written = json.loads((tmp_path / "evaluate" / "keyframes.json").read_text())
    assert written["source"].startswith(
        "best of 2 by caption_reader(weights=shipped, oddity=0.2): generated(heun(steps=1,"
    )
    assert "| generated |" in (tmp_path / "evaluate" / "keyframes.md").read_text()
    both = f"checkpoint=[{generator_folder},{run_folder}]"
    with pytest.raises(BadValue, match="expected refiners to compare, or one keyframe generator"):
        evaluate(program_config("evaluate", tmp_path, both, *quick))
