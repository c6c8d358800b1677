"""Checks of a resolved config against the signatures of its targets: what is refused, and what has to be allowed."""

import enum
import numbers
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn

from interp_refiner.config import Refused, Settings, check_config
from interp_refiner.config.check import check_added
from interp_refiner.config.hints import rule, rules
from interp_refiner.core import UNBOUNDED, BadValue

Width = NewType("Width", int)


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


ALLOWED = [
    (int, [3, -1]),
    (float, [0.5, 3, 1e-9]),  # an integer is a number
    (bool, [True]),
    (str, ["", "a", "é"]),
    (Path, ["/a/b"]),
    (str | Path | None, ["x", None]),
    (list[int], [[], [1, 2]]),
    (Sequence[float], [[1, 0.5]]),
    (tuple[int, ...], [[], [1, 2, 3]]),
    (tuple[float, float], [[0.9, 1]]),
    (set[str], [["a", "b"]]),
    (dict[str, float], [{"a": 1}]),
    (Mapping[int, str], [{"1": "a"}]),
    (Literal["a", 1, None], ["a", 1, None]),
    (Colour, ["red"]),
    (Annotated[int, "size"], [3]),
    (Width, [3]),
    (Optional[int], [None, 3]),  # noqa: UP045
    (list[list[int]], [[[0, 3], [1]]]),
    (dict[str, Literal["x", "y"]], [{"a": "x"}]),
    (float | Tensor, [0.1]),
    (dict | None, [{"a": [1]}, None]),
    (Any, [object, 3, "a", None, {"a": 1}]),
    (nn.Module | None, [None]),
    (Callable[[int], int], ["x"]),
    (list[nn.Module], [[], ["x"]]),
    (nn.Module | int, [3]),
]

REFUSED = [
    (int, ["3", 3.0, 3.5, True, None, [3]], "an integer"),
    (float, ["0.5", "abc", None, True], "a number"),
    (float, [float("inf"), -float("inf"), float("nan")], "a finite number"),
    (list[float] | None, [[0.5, float("nan")]], "a list of finite numbers or null"),
    (float, [2**63, -(2**63) - 1], "a number, of at most 64 bits"),
    (list[int], [[1, 10**30]], "a list of integers, of at most 64 bits"),
    (nn.Module, [3, "x", None], "a component, which is a node with _target_, not a plain value"),
    (bool, [0, "true", None], "true or false"),
    (str, [3, None, True], "a string"),
    (Path, [3], "a string"),
    (list[int], [3, "abc", [1, "x"], [0.5], {"a": 1}], "a list of integers"),
    (Sequence[str], ["abc", [1]], "a list of strings"),
    (tuple[float, float], [[1], [1, 2, 3], 1], "a list of 2: a number, a number"),
    (dict[str, float], [{"a": "x"}, [1]], "a dict of numbers"),
    (Literal["a", "b"], ["c", 1, None], "a | b"),
    (Literal["a", "b"] | None, ["c"], "a | b | null"),
    (Colour, ["blue", 1], "red | green"),
    (int | None, ["x", 0.5], "an integer or null"),
    (float | Tensor, ["x"], "a number"),
    (list[nn.Module], [3, {"a": 1}][:1], "a list"),
    (nn.Module | int, [{"any": "dict"}], "an integer, or a node with _target_; these keys belong to another option"),
    (list[list[int]], [[1]], "a list of (a list of integers)"),
]


@pytest.mark.parametrize(("hint", "values"), ALLOWED, ids=[str(hint) for hint, _ in ALLOWED])
def test_allowed(hint: Any, values: list) -> None:
    for value in values:
        rule(hint).check("x", value)


@pytest.mark.parametrize(("hint", "values", "expected"), REFUSED, ids=[str(hint) for hint, _, _ in REFUSED])
def test_refused(hint: Any, values: list, expected: str) -> None:
    for value in values:
        with pytest.raises(BadValue) as caught:
            rule(hint).check("group.x", value)
        assert (caught.value.name, caught.value.allowed) == ("group.x", expected)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=6))
def test_a_union_allows_what_one_of_its_members_allows(value: Any) -> None:
    def allows(hint: Any) -> bool:
        try:
            rule(hint).check("x", value)
        except BadValue:
            return False
        return True

    members = [int, float, bool, str, type(None), list[int], list[str]]
    assert allows(int | float | bool | str | None | list[int] | list[str]) == any(allows(member) for member in members)
    assert allows(float) >= allows(int)


class Part:
    def __init__(self, size: int, *, names: Iterable[str] = (), scale: int = None, untyped=0):  # type: ignore[assignment] # noqa: RUF013
        self.size = size


def loose(size: int, **others: int) -> None: ...


@dataclass
class Whole:
    part: Part
    parts: list[Part]
    make: Callable[..., Any] | None = None


def config(**top: Any) -> Any:
    return OmegaConf.create(top)


def node(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"tests.config.test_check.{target}", **arguments}


PASSES: dict[str, dict[str, Any]] = {
    "defaults are right whatever the hint": {"part": node("Part", size=1, scale=None)},
    "untyped arguments are not judged": {"part": node("Part", size=1, untyped=["x"])},
    "further keywords": {"part": node("loose", size=1, other=2)},
    "positional": {"part": node("Part", _args_=[1])},
    "nested": {"whole": node("Whole", part=node("Part", size=1), parts=[node("Part", size=2)])},
    "by interpolation": {"part": node("Part", size=1), "whole": node("Whole", part="${part}", parts=["${part}"])},
    "what a config cannot write": {"whole": node("Whole")},
    "partial": {"part": node("Part", _partial_=True)},
    "partial with a gap": {"part": node("Part", _partial_=True, size="???")},
    "null instead of a node": {"part": None, "callback": {"video": None}},
    "directives": {"part": node("Part", size=1, _convert_="all", _recursive_=False)},
    "an optimizer": {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "betas": [0.9, 1], "fused": None}},
    "a schedule": {"s": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_": True, "T_max": 10}},
    "builtins": {"d": {"_target_": "builtins.dict", "anything": 1}},
}


@pytest.mark.parametrize("case", PASSES)
def test_passes(case: str) -> None:
    @dataclass
    class Top(Settings):
        part: Any = None

    check_config(config(**PASSES[case]), Top)


STOPPED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown argument": (
        {"a": {"b": node("Part", size=1, sice=2)}},
        "a.b.sice: unknown argument of tests.config.test_check.Part; did you mean 'a.b.size'?",
    ),
    "missing argument": (
        {"part": node("Part")},
        "part.size has no value: tests.config.test_check.Part needs it, set +part.size=<value>",
    ),
    "wrong value in a list of nodes": (
        {"w": node("Whole", parts=[node("Part", size=1), node("Part", size="x")])},
        "w.parts.1.size=x: expected an integer",
    ),
    "wrong value in a partial": ({"part": node("Part", _partial_=True, size="x")}, "part.size=x: expected an integer"),
    "wrong value through an interpolation": (
        {"n": {"m": "x"}, "part": node("Part", size="${n.m}")},
        "part.size=x: expected an integer",
    ),
    "hole": ({"n": {"m": "???"}}, "n.m has no value: set n.m=<value>"),
    "hole in a list": ({"n": ["???"]}, "n.0 has no value: set n.0=<value>"),
    "interpolation to a hole": (
        {"n": {"m": "${o}"}, "o": "???"},
        "n.m=${o}: cannot be resolved: MissingMandatoryValue while resolving interpolation: Missing mandatory value: o",
    ),
    "environment variable": (
        {"n": {"m": "${oc.env:SURELY_NOT_SET}"}},
        "n.m has no value: set n.m=<value>, or SURELY_NOT_SET in the environment",
    ),
    "a dict in place of a top-level value": ({"seed": {"wrong": 1}}, 'seed={"wrong": 1}: expected an integer'),
    "unknown top-level value": ({"seeed": 1}, "seeed: unknown key; did you mean 'seed'?"),
    "torch": (
        {"o": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": "big"}},
        "o.lr=big: expected a number",
    ),
    "torch, wrong pair": (
        {"o": {"_target_": "torch.optim.AdamW", "_partial_": True, "betas": [0.9]}},
        "o.betas=[0.9]: expected a list of 2: a number, a number",
    ),
    "Lightning, nearest choice": (
        {"t": {"_target_": "lightning.pytorch.Trainer", "precision": "bf16-mixd"}},
        "t.precision=bf16-mixd: expected 64 | 32 | 16 | transformer-engine | transformer-engine-float16 | 16-true | "
        "16-mixed | bf16-true | bf16-mixed | 32-true | 64-true | bf16 | null; did you mean 'bf16-mixed'?",
    ),
    "relative path of a target": (
        {"t": {"_target_": ".Part"}},
        "t._target_=.Part: expected the dotted path of a class or function",
    ),
    "no path of a target": ({"t": {"_target_": 3}}, "t._target_=3: expected the dotted path of a class or function"),
}


@pytest.mark.parametrize("case", STOPPED)
def test_stopped(case: str) -> None:
    values, expected = STOPPED[case]
    with pytest.raises((BadValue, Refused)) as caught:
        check_config(config(**values))
    assert str(caught.value) == expected


def test_lightnings_trainer_is_never_refused_what_it_takes() -> None:
    kwargs = {
        "accelerator": "cpu",
        "devices": [0],
        "precision": "bf16-mixed",
        "max_time": {"minutes": 3},
        "limit_train_batches": 0.5,
        "val_check_interval": 100,
        "logger": False,
        "callbacks": [{"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "every_n_train_steps": 5}],
        "strategy": {"_target_": "lightning.pytorch.strategies.DDPStrategy", "find_unused_parameters": False},
        "deterministic": "warn",
        "profiler": "simple",
        "default_root_dir": "somewhere",
        "plugins": [],
    }
    check_config(config(trainer={"_target_": "lightning.pytorch.Trainer", **kwargs}))
    assert set(kwargs) <= set(rules(Trainer))
    for changed in ({"devices": "auto"}, {"max_time": "00:01:00:00"}, {"val_check_interval": 0.25}, {"logger": None}):
        check_config(config(trainer={"_target_": "lightning.pytorch.Trainer", **kwargs, **changed}))


def test_nothing_is_called() -> None:
    check_config(config(x={"_target_": "tests.config.test_check.explode", "size": 1}))


def explode(size: int) -> None:
    raise AssertionError("called")


def test_a_broken_module_is_a_bug_and_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        check_config(config(x={"_target_": "broken_module.Thing"}))


def test_a_module_that_needs_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_module.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = "x: needy_module.Thing needs the module surely_not_installed, which is not installed"
    with pytest.raises(Refused, match=message):
        check_config(config(x={"_target_": "needy_module.Thing"}))


def test_scales_of_an_experiment() -> None:
    cfg = config(scales=["laptop", "h200"])
    check_config(cfg, choices={"scale": "h200", "experiment": "maze"})
    expected = "scale=h100: expected laptop | h200 with \\+experiment=maze; did you mean 'h200'?"
    with pytest.raises(BadValue, match=expected):
        check_config(cfg, choices={"scale": "h100", "experiment": "maze"})


def test_infinity_is_allowed_where_the_hint_says_so() -> None:
    rule(Annotated[float, UNBOUNDED]).check("gain", float("inf"))
    for wrong in (float("nan"), -float("inf")):
        with pytest.raises(BadValue, match=r"^gain=.*: expected a finite number$"):
            rule(Annotated[float, UNBOUNDED]).check("gain", wrong)


@pytest.mark.parametrize(
    ("hint", "value"),
    [(numbers.Real, 1.5), (abc.Hashable, "x"), (torch.device, "cpu"), (complex, 1), (abc.Container, [1])],
)
def test_a_type_of_plain_values_is_no_component(hint: Any, value: Any) -> None:
    rule(hint).check("x", value)


@pytest.mark.parametrize("wrong", [3, "abc", {"a": 1}])
def test_positional_arguments_are_a_list(wrong: Any) -> None:
    node = {"part": {"_target_": "builtins.print", "_args_": wrong}}
    with pytest.raises(BadValue, match=r"^part\._args_=.*: expected a list$"):
        check_config(OmegaConf.create(node))


@pytest.mark.parametrize(
    ("program", "override"),
    [("app", "+sampler@samplers.mine=bridge"), ("train", "+checkpoint.a=1"), ("evaluate", "+keyframe_quality.a=1")],
)
def test_entries_may_be_added_to_nodes_of_the_programs_own_config(program, override):
    program = getattr(import_module(f"interp_refiner.{program}"), program).program
    check_added(program.compose(override), program.settings)
