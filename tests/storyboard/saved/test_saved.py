"""Loading a pipeline's folder that is not trusted, or incomplete."""

import copy
import json
import os
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.codec import Codec, PatchDCT
from interp_refiner.model.keyframes import Choice
from interp_refiner.storyboard import INDEX, RefinerPipeline, as_pipeline, load_generator
from interp_refiner.storyboard.saved.components import WEIGHTS
from interp_refiner.storyboard.saved.construct import component, construct, construct_components
from tests.storyboard.conftest import SMALL, program_config


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    return pipe.save_pretrained(tmp_path_factory.mktemp("saved"))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("os.system", {"command": "touch {}"}),
        ("interp_refiner.data.shards.write.os.system", {"command": "touch {}"}),
        ("interp_refiner.storyboard.saved.components.Path.touch", {"self": "{}"}),
        ("interp_refiner.storyboard.saved.components.json.codecs.open", {"filename": "{}", "mode": "w"}),
        ("interp_refiner.data.write_shard", {"path": "{}"}),
        ("interp_refiner.core.save_weights", {"path": "{}"}),
        ("interp_refiner.data.codec.patch_dct.Sequence", {}),
        ("interp_refiner.data.codec.wan_vae.Codec", {}),  # a component, but not that module's own
        ("interp_refiner.data.codec..PatchDCT", {}),
        ("interp_refiner.data.codec:PatchDCT", {}),
        (["interp_refiner.data.codec.PatchDCT"], {}),
    ],
)
def test_a_folder_runs_nothing_but_components(tmp_path, target, arguments):
    mark = tmp_path / "mark"
    node = {"_target_": target, **{name: value.format(mark) for name, value in arguments.items()}}
    with pytest.raises(BadValue, match=r"_target_=.*: expected Codec of interp_refiner, by the name"):
        construct({"inside": [node]}, tmp_path, (Codec,))
    assert not mark.exists()


def test_a_part_from_outside_is_refused_before_a_folder_is_written(pipe, tmp_path):
    nodes = copy.deepcopy(pipe.config.components)
    nodes["corruption"]["interpolator"]["_target_"] = "my_parts.hold.Hold"
    pipe = copy.copy(pipe)
    pipe.config = replace(pipe.config, components=nodes)
    said = r"^corruption\.interpolator\._target_=my_parts\.hold\.Hold: expected a part of interp_refiner"
    with pytest.raises(BadValue, match=said):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_components_are_found_by_the_name_of_their_module_and_of_their_package(tmp_path):
    for name in ("interp_refiner.data.codec.PatchDCT", "interp_refiner.data.codec.patch_dct.PatchDCT"):
        assert component(name, (Codec,)) is PatchDCT
    node = {"_target_": "interp_refiner.data.codec.declared_codec"}
    spec = ClipSpec((16, 5, 2, 2), codec={"name": "patch_dct"})
    assert isinstance(construct(node, tmp_path, (Codec,), spec=spec), PatchDCT)


@pytest.mark.parametrize(
    ("outer", "argument", "inner", "expected"),
    [
        ("data.codec.PatchDCT", "still", "data.codec.PatchDCT", "Still"),
        ("model.keyframes.Choice", "scorer", "model.sampler.OneJump", "CaptionScorer"),  # both can be called
        ("model.keyframes.Choice", "candidates", "model.sampler.OneJump", "no component"),
    ],
)
def test_a_component_in_the_place_of_another_is_not_built(tmp_path, outer, argument, inner, expected):
    node = {"_target_": f"interp_refiner.{outer}", argument: {"_target_": f"interp_refiner.{inner}"}}
    with pytest.raises(BadValue, match=f"_target_=interp_refiner.{inner}: expected {expected} of interp_refiner"):
        construct(node, tmp_path, (Codec, Choice))


def test_a_component_of_another_kind_is_refused(pipe, folder):
    nodes = json.loads((folder / INDEX).read_text())["components"]
    with pytest.raises(BadValue, match=r"_target_=.*declared_text_encoder: expected Codec of interp_refiner"):
        construct_components({**nodes, "codec": nodes["text"]}, pipe.config.spec, folder)
    with pytest.raises(BadValue, match=r"components\.codec=NoneType: expected a Codec"):
        construct_components({**nodes, "codec": None}, pipe.config.spec, folder)
    with pytest.raises(BadValue, match=r"components=vae: expected corruption \| .*"):
        construct_components({**nodes, "vae": None}, pipe.config.spec, folder)
    older = {**nodes["corruption"], "level": None}
    with pytest.raises(BadValue, match="components=level: expected an argument of Corruption: another version wrote"):
        construct_components({**nodes, "corruption": older}, pipe.config.spec, folder)


LATENT = '{"_class_name": "RefinerPipeline", "components": {}, "trained": {}, "spec": {"latent_shape": '


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a file that holds a mapping: "),
        ('{"_class_name": "Ref', "a file that holds a mapping: "),
        ("[]", "a file that holds a mapping, it holds list"),
        (b"\xff", "a file that holds a mapping: "),
        ('{"_class_name": "RefinerPipeline"}', "an export of this version, with a mapping spec"),
        ('{"_class_name": "RefinerPipeline", "spec": {}}', "an export of this version, with a mapping components"),
        (LATENT + "null}}", "a whole spec of the clips: latent_shape=None"),
        (LATENT + '[1, 2], "fps": "x"}}', "a whole spec of the clips: fps=x"),
        (LATENT + '[1, 2], "new": 1}}', "a whole spec of the clips: field=new"),
        (LATENT + '[1, 2], "codec": 1}}', "a whole spec of the clips: codec=1"),
        (LATENT + '[1, 2], "other_shapes": 3}}', "a whole spec of the clips: other_shapes=3"),
    ],
)
def test_a_damaged_index_is_refused_by_its_file(tmp_path, content, said):
    (tmp_path / INDEX).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadValue, match=f"^checkpoint=.*{INDEX}: expected {said}"):
        RefinerPipeline.from_pretrained(tmp_path)
    if "Pipeline" not in str(content):
        with pytest.raises(BadValue, match=f"^keyframes=.*{INDEX}: expected {said}"):
            load_generator(tmp_path)


def test_a_component_without_its_arguments_is_refused(tmp_path):
    with pytest.raises(BadValue, match="components=spec: expected an argument of declared_codec"):
        construct({"_target_": "interp_refiner.data.codec.declared_codec"}, tmp_path, (Codec,))


@pytest.mark.parametrize("change", ["missing", "too many", "other size", "half a file", "no file"])
def test_weights_that_do_not_fit_are_refused(pipe, tmp_path, change):
    file = pipe.save_pretrained(tmp_path / "saved") / WEIGHTS
    weights = load_file(file)
    name = sorted(weights)[0]
    if change == "missing":
        del weights[name]
    elif change == "too many":
        weights["zzz"] = torch.ones(1)
    elif change == "other size":
        weights[name] = torch.ones(*weights[name].shape, 2)
    save_file(weights, file)
    if change == "half a file":
        file.write_bytes(file.read_bytes()[:-100])
    elif change == "no file":
        file.unlink()
    said = {"missing": f"{name} is missing", "too many": "zzz is unknown", "other size": rf"{name} is \["}
    with pytest.raises(
        BadValue, match=f"checkpoint=.*{WEIGHTS}: expected .*{said.get(change, 'a complete .safetensors')}"
    ):
        RefinerPipeline.from_pretrained(tmp_path / "saved")


def test_what_an_objective_has_learned_is_saved(run_folder, tmp_path):
    """The estimate of the loaded pipeline is that of the run, bit for bit."""
    config = OmegaConf.load(run_folder / "config.yaml")
    node = {"_target_": "interp_refiner.model.objective.Preconditioned", "variance": 3.0}
    config.objective = node
    run = assemble(config)
    with torch.no_grad():
        for weight in run.refiner.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    made = as_pipeline(run)
    again = RefinerPipeline.from_pretrained(made.save_pretrained(tmp_path / "saved"))
    learned = made.objective.arc.log_variance
    assert (learned != 0).all()
    assert torch.equal(again.objective.arc.log_variance, learned)


def test_a_learned_interpolator_inside_another_and_a_robust_objective_come_back(tmp_path):
    parts = [
        "interpolator=remembered",
        "interpolator@interpolator.inner=flow_warp",
        "interpolator.inner.checkpoint=null",
    ]
    parts += ["objective/penalty=robust", "objective.penalty.alpha=0.5"]
    run = assemble(program_config("train", tmp_path, *SMALL, "+experiment=toy_video", *parts))
    own = run.refiner.corruption.interpolator
    with torch.no_grad():
        for weight in own.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    again = RefinerPipeline.from_pretrained(as_pipeline(run).save_pretrained(tmp_path / "saved"))
    found = again.corruption.interpolator
    assert own.state_dict()
    assert all(torch.equal(weight, found.state_dict()[name]) for name, weight in own.state_dict().items())
    assert found.inner.frozen
    assert again.objective.penalty.alpha == 0.5


def test_a_kernel_of_the_machine_that_trained_is_not_stored(tmp_path):
    kernel = ["attention.backend=cudnn", "attention.cross_backend=sdpa"]
    run = assemble(program_config("train", tmp_path, *SMALL, "+experiment=toy_video", *kernel))
    stored = as_pipeline(run).config.components["backbone"]["attention"]
    assert (stored["backend"], stored["cross_backend"]) == ("auto", "sdpa")


def test_weights_that_are_not_finite_are_refused(pipe, tmp_path):
    file = pipe.save_pretrained(tmp_path / "saved") / WEIGHTS
    weights = load_file(file)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = torch.nan
    save_file(weights, file)
    with pytest.raises(BadValue, match=f"checkpoint=.*{WEIGHTS}: expected .* weights of this model: {name} holds NaN"):
        RefinerPipeline.from_pretrained(tmp_path / "saved")


def test_every_file_has_the_permissions_that_the_umask_leaves(folder):
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}
