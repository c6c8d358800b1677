"""Parts of a user's own package: a class and a YAML beside it, no edit of the project."""

import re
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner.config import Refused, build, conf_dir
from interp_refiner.config.command_line import CommandLine
from interp_refiner.core import BadValue, ClipSpec, Draws, Measure
from interp_refiner.data.codec import PatchDCT
from interp_refiner.evaluate import evaluate
from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.comparison import Comparison, find_runs, read_runs, write_report
from interp_refiner.evaluation.evaluator.outputs import write_outputs
from interp_refiner.evaluation.measures import PSNR, FrameMetric
from interp_refiner.evaluation.records.plots import by_gap
from interp_refiner.evaluation.records.terminal import show
from interp_refiner.forward.interpolator import Linear
from interp_refiner.model.backbone import Interface
from interp_refiner.model.keyframes import KeyframeRequest
from interp_refiner.storyboard.saved.card import evaluated, figures
from interp_refiner.train import train
from interp_refiner.training.record import LogBook, read_record
from tests.evaluation.comparison.synthetic import make_run
from tests.evaluation.evaluator.test_evaluator import evaluate as judged
from tests.evaluation.evaluator.test_evaluator import make as made
from tests.factories import random_clip, spec_of

CODE = """
import torch
from torch import nn
from interp_refiner.core import BadValue, Measure
from interp_refiner.evaluation.measures import FrameMetric
from interp_refiner.forward.corruption import NoiseProfile
from interp_refiner.forward.interpolator import Interpolation, Interpolator, no_confidence
from interp_refiner.model.backbone import Backbone
from interp_refiner.training import ImageDistance

class Hold(Interpolator):
    segment_local = True

    def __init__(self, gain: float = 1.0):
        super().__init__()
        if gain < 0:
            raise BadValue("gain", gain, "a number >= 0")
        self.gain = gain

    def fill(self, values, near):
        index = near.left.view(*near.left.shape[:1], 1, -1, *[1] * (values.ndim - 3)).expand_as(values)
        return Interpolation(self.gain * values.gather(2, index), no_confidence(values))

class Late(NoiseProfile):
    def missing(self, neighbours):
        return neighbours.alpha

class PerPosition(Backbone):
    def __init__(self, interface, attention=None, width: int = 4):
        super().__init__()
        self.head = nn.Conv3d(2 * interface.spec.channels, interface.out_channels, 1)

    def forward(self, corrupted):
        return self.head(torch.cat([corrupted.x, corrupted.interpolation], 1))

    def zero_output(self):
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

class Distance(FrameMetric):
    measures = (Measure("mine", "my distance", compared="ratio", note="mine is a mean of absolute differences"),)

    def forward(self, estimate, clean):
        return (estimate - clean).abs().mean((1, 3, 4))

class Edges(ImageDistance):
    def forward(self, x, y):
        return sum((x - y).diff(dim=axis).abs().mean((1, 2, 3)) for axis in (2, 3))
"""
OPTIONS = {
    "interpolator/hold": "_target_: throw_away.parts.Hold\ngain: 0.5\n",
    "corruption/late": "defaults:\n  - dist\n  - _self_\nnoise:\n  _target_: throw_away.parts.Late\n",
    "corruption/plain": "defaults:\n  - dist\n  - _self_\nnoise: gauss\n",
    "corruption/number": "defaults:\n  - dist\n  - _self_\ndrawn:\n  bridge_time: 5\n",
    "backbone/per_position": "_target_: throw_away.parts.PerPosition\n",
    "metric/mine": "mine:\n  _target_: throw_away.parts.Distance\n",
    "training/perceptual/edges": (
        "defaults:\n  - st_lpips\n  - _self_\nnetwork:\n  _target_: throw_away.parts.Edges\n"
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package that is installed for the length of this module, and its folder of options."""
    root = tmp_path_factory.mktemp("package")
    (root / "throw_away").mkdir()
    (root / "throw_away" / "__init__.py").touch()
    (root / "throw_away" / "parts.py").write_text(textwrap.dedent(CODE))
    for option, text in OPTIONS.items():
        file = root / "conf" / f"{option}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))
    for name in [name for name in sys.modules if name.startswith("throw_away")]:
        del sys.modules[name]


def config(package, program, *arguments):
    line = CommandLine.read(["--config-dir", str(package / "conf"), *arguments], [])
    return program.program.compose(*line.composable)


def test_an_interpolator(package):
    cfg = config(package, train, "interpolator=hold")
    known = torch.tensor([[True, False, False, True]])
    values = random_clip(batch=1, frames=4).latents
    filled = build(cfg.interpolator)(values, known).latents
    assert torch.equal(filled[:, :, 1], 0.5 * values[:, :, 0])
    assert torch.equal(filled[:, :, 3], values[:, :, 3])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("interpolator.gain=much", r"interpolator\.gain=much: expected a number"),
        ("interpolator.gain=-1", r"interpolator\.gain=-1(\.0)?: expected a number >= 0"),
        ("interpolator.gian=1", r"interpolator\.gian=1: no such key; did you mean 'interpolator.gain'"),
    ],
)
def test_its_values_are_checked_like_any_other(override, message, package):
    def start():
        cfg = config(package, train, "interpolator=hold", override)
        train.program.check_before(cfg, str(package / "run"))
        build(cfg.interpolator)

    with pytest.raises((BadValue, Refused), match=message):
        start()


@pytest.mark.parametrize(
    ("option", "said"), [("plain", "corruption.noise=gauss"), ("number", "corruption.drawn.bridge_time=5")]
)
def test_a_plain_value_for_a_component_in_a_file_is_refused(package, option, said):
    cfg = config(package, train, f"corruption={option}")
    with pytest.raises(BadValue, match=rf"^{re.escape(said)}: expected a component, .* not a plain value"):
        train.program.check_before(cfg, str(package / "run"))


def test_it_stands_among_the_options_of_its_group(package):
    with pytest.raises(BadValue, match=r"interpolator=holdd: expected .*\bhold\b.*did you mean 'hold'"):
        config(package, train, "interpolator=holdd")


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 4, 4), r"Opinion\.fill confidence=\[1, 4, 4\]: expected \[1, 4, 4, 6\]"), ((1, 4, 3, 6), "may be 1")],
)
def test_a_confidence_of_another_shape_names_the_part_and_its_contract(shape, said):
    class Opinion(Linear):
        def fill(self, values, near):
            return replace(super().fill(values, near), confidence=torch.zeros(shape))

    known = torch.tensor([[True, False, False, True]])
    values = random_clip(batch=1, frames=4).latents[:, :, :, :4, :6]
    with pytest.raises(BadValue, match=said):
        Opinion()(values, known)


def test_a_figure_of_another_shape_names_the_metric():
    class OneNumber(FrameMetric):
        measures = (Measure("one", "one number"),)

        def forward(self, estimate, clean):
            return torch.zeros(len(clean), estimate.shape[2] + 1)

    with pytest.raises(BadValue, match=r"OneNumber one=\(6, 22\): expected \(6, 21\), one number per frame"):
        judged(made(), levels=(4,), chosen=[OneNumber()])


def test_a_package_that_is_not_on_the_path_is_named_with_the_cure():
    node = OmegaConf.create({"interpolator": {"_target_": "nowhere_to_be_found.parts.Hold"}})
    said = r"interpolator: .*; nowhere_to_be_found\.parts\.Hold belongs to another package: install it"
    with pytest.raises(Refused, match=said):
        build(node.interpolator)


def test_a_corruption_mode(package):
    cfg = config(package, train, "corruption=late", "corruption/bridge_time=fully_corrupted", "corruption.sigma=0.2")
    corruption = build(cfg.corruption, interpolator=Linear())
    corrupted = corruption(random_clip(), "val")
    expected = corrupted.neighbours.alpha.masked_fill(corrupted.known, 0)
    assert torch.equal(corrupted.noise_profile, expected)


def test_a_backbone(package):
    cfg = config(package, train, "backbone=per_position")
    spec: ClipSpec = spec_of(16)
    backbone = build(cfg.backbone, interface=Interface(spec), attention=None)
    corrupted = build(cfg.corruption, interpolator=Linear())(random_clip(channels=16), "val")
    assert backbone(corrupted).shape == corrupted.x.shape


def documented(name):
    """A class of docs/extending.md."""
    page = (conf_dir().parent / "docs" / "extending.md").read_text()
    code = next(text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if f"class {name}(" in text)
    exec(code, found := {})
    return found[name]


def test_the_documented_codec_makes_a_data_set_and_takes_its_statistics():
    made = documented("Shrink")()
    video = torch.rand(1, 3, 5, 4, 6)
    latents = made.encode(video)
    assert latents.shape == (1, 3, 5, 2, 3)
    spec = ClipSpec((3, 5, 2, 3), latents_mean=[1.0, 2.0, 3.0], latents_std=[2.0] * 3, codec=made.describe())
    adopted = documented("Shrink")(spec=spec)
    assert torch.allclose(adopted.encode(video) * 2 + torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1), latents)
    assert len(adopted.reflections()) == 2
    with pytest.raises(BadValue, match="codec=shrink with 3"):
        documented("Shrink")(spec=spec_of(16))


def test_the_documented_source_keeps_given_keyframes():
    latents, given = torch.randn(1, 4, 3, 2, 2), torch.tensor([[True, False, False]])
    request = KeyframeRequest(torch.tensor([[0, 2, 4]]), 5, latents, given)
    made = documented("Drawn")(spec_of(4), scale=0.0)(request, Draws(0, "sample", ["a"]))
    assert torch.equal(made[:, :, 0], latents[:, :, 0])
    assert not made[:, :, 1:].any()


def test_a_perceptual_distance(package):
    cfg = config(package, train, "training/perceptual=edges")
    loss = build(cfg.training.perceptual, spec=spec_of(16), codec=PatchDCT())
    corrupted = build(cfg.corruption, interpolator=Linear())(random_clip(channels=16), "train")
    assert loss(corrupted.clean, corrupted) == 0
    assert loss(corrupted.clean + 0.1, corrupted) < loss(corrupted.clean + torch.randn_like(corrupted.clean), corrupted)


def test_a_metric_is_in_every_output(package, tmp_path, capsys):
    """One class and one YAML: no output knows its name."""
    cfg = config(package, evaluate, "metric=[mine]", "checkpoint=none")
    run = make_run(tmp_path / "run", {"corruption": "dist"}, ratio=0.8)
    evaluation, _ = judged(made(gain=0.5), levels=(4,), chosen=[build(cfg.metric.mine)])
    heading, folder = "my distance / linear", run / "evaluation"
    write_outputs(evaluation, folder)
    assert {r.measure for r in evaluation.records} >= {"mine", "mine_ratio", "mine_better", "mine_worse"}
    assert heading in (folder / "evaluation.md").read_text()
    assert "- mine is a mean of absolute differences." in (folder / "evaluation.md").read_text()
    assert Evaluation.load(folder / "evaluation.json").record("mine", "linear", level=4).value > 0
    show(evaluation, folder)
    printed = capsys.readouterr().out
    assert "distance" in printed
    assert "mine is a mean of absolute differences" in printed
    assert heading in [axes.get_ylabel() for axes in by_gap(evaluation).axes]
    comparison = Comparison(read_runs(find_runs([run])))
    written = write_report(comparison, tmp_path / "report", "a report")
    assert all(heading in path.read_text() for path in written.values())
    assert heading in {record["measure"] for record in comparison.records()}  # of the notebook
    assert heading in evaluated(figures(evaluation, [14, 9, 6, 4]))  # of the model card
    entry = LogBook(tmp_path / "book").enter(read_record(run), run).read_text()
    assert heading in entry


def test_the_evaluation_at_the_end_of_a_run_finds_it(package, tmp_path):
    cfg = config(package, train, "evaluation={metric:[mine]}")
    train.program.check_before(cfg, str(tmp_path / "run"))


def test_a_metric_of_a_name_that_is_taken_is_refused():
    with pytest.raises(BadValue, match="metric=psnr: expected a measure with a unique name"):
        judged(made(), levels=(4,), chosen=[PSNR()])
