"""Objects from config nodes: the values that arrive, and the message when a constructor refuses."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from interp_refiner.config import Refused, build
from interp_refiner.core import BadValue


@dataclass
class Box:
    size: int
    items: list[Any] = field(default_factory=list)
    inner: Any = None


def picky(size: int = 1) -> int:
    if size < 0:
        raise BadValue("size", size, "an integer >= 0")
    return size


def far_away() -> None:
    raise BadValue("box.size", 3, "a smaller number")


def buggy(size: int) -> float:
    return 1 / size


def config(**top: Any) -> Any:
    return OmegaConf.create(top)


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"tests.config.test_construct.{name}", **arguments}


def test_values_arrive_as_plain_python() -> None:
    cfg = config(n=3, box=node("Box", size="${n}", items=[1, {"a": [2]}], inner=node("Box", size=4)))
    assert build(cfg.box) == Box(3, [1, {"a": [2]}], Box(4))
    assert type(build(cfg.box).items) is list
    assert type(build(cfg.box).items[1]) is dict


def test_directives_of_a_node() -> None:
    inner = node("Box", size=4)
    assert build(config(box=node("Box", _args_=[3, [1]], inner=inner)).box) == Box(3, [1], Box(4))
    assert build(config(box=node("Box", size=3, inner=inner, _recursive_=False)).box) == Box(3, inner=inner)


def test_arguments_arrive_as_they_are() -> None:
    given = Box(7)
    assert build(config(box=node("Box", size=1)).box, inner=given).inner is given


def test_arguments_replace_values() -> None:
    assert build(config(box=node("Box", size=1)).box, size=2).size == 2


def test_a_partial_node_is_completed_by_the_program() -> None:
    cfg = config(box=node("Box", _partial_=True, items=[1]))
    assert build(cfg.box, size=5) == Box(5, [1])
    assert build(cfg.box)(6) == Box(6, [1])


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        (config(a=node("picky", size=-1)), "a.size=-1: expected an integer >= 0"),
        (config(a=node("Box", size=1, inner=node("picky", size=-1))), "a.inner.size=-1: expected an integer >= 0"),
        (
            config(a=node("Box", size=1, items=[node("picky"), node("picky", size=-1)])),
            "a.items.1.size=-1: expected an integer >= 0",
        ),
        (
            config(b=node("picky", size=-1), a=node("Box", size=1, inner="${b}")),
            "b.size=-1: expected an integer >= 0",
        ),
        (
            config(b=[{"c": node("picky", size=-1)}], a=node("Box", size=1, inner=["${b.0.c}"])),
            "b.0.c.size=-1: expected an integer >= 0",
        ),
        (config(a=node("Box", size=[1])), "a.size=[1]: expected an integer"),
        (config(a=node("Box", size=1, inner=node("picky", size="x"))), "a.inner.size=x: expected an integer"),
    ],
)
def test_a_bad_value_is_named_by_its_place_in_the_config(cfg: Any, line: str) -> None:
    with pytest.raises(BadValue) as caught:
        build(cfg.a)
    assert str(caught.value) == line


def test_what_is_built_is_checked_first() -> None:
    with pytest.raises(Refused, match=r"^box\.sise: unknown argument of .*Box; did you mean 'box\.size'\?"):
        build(config(box=node("Box", sise=1)).box)
    assert build(config(box=node("Box", size="wrong")).box, size=2) == Box(2)  # the program replaces it


@pytest.mark.parametrize("value", [{"size": 3}, None, 3.5])
def test_only_nodes_with_a_target_are_built(value: Any) -> None:
    with pytest.raises(Refused, match=r"is not a node with _target_$"):
        build(config(box=value).box)


def test_a_key_of_the_config_stays_as_it_is() -> None:
    cfg = config(box={"size": 3}, part=node("far_away"))
    with pytest.raises(BadValue, match=r"^box\.size=3: expected a smaller number"):
        build(cfg.part)


def of_others(setting: str, box: Any = None, empty: Any = None) -> None:
    raise BadValue(setting, 3, "a smaller number")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("box", "box"),  # an argument that the program hands over is a part of its own
        ("box.width", "box.width"),
        ("lid", "lid"),  # no argument of this part
        ("lid.weight", "lid.weight"),
        ("lid.of.many[2]", "lid.of.many[2]"),
        ("empty", "part.empty"),  # its own argument
        ("setting", "part.setting"),
        ("elsewhere", "part.elsewhere"),
        ("part", "part"),
    ],
)
def test_a_setting_of_another_part_keeps_its_key(name: str, told: str) -> None:
    cfg = config(box={"size": 3}, lid=None, empty=4, setting="x", part=node("of_others", setting=name))
    with pytest.raises(BadValue) as caught:
        build(cfg.part, box=Box(1))
    assert str(caught.value) == f"{told}=3: expected a smaller number"


def test_a_bug_comes_out_as_it_is() -> None:
    for cfg in (config(a=node("buggy", size=0)), config(a=node("Box", size=1, inner=node("buggy", size=0)))):
        with pytest.raises(ZeroDivisionError) as caught:
            build(cfg.a)
        assert caught.traceback[-1].name == "buggy"


def test_only_another_packages_value_error_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"^a: dropout probability has to be between 0 and 1, but got 2$"):
        build(config(a={"_target_": "torch.nn.Dropout", "p": 2}).a)

    def derived_seed() -> None:
        raise ValueError("a bug of ours")

    monkeypatch.setattr("interp_refiner.core.derived_seed", derived_seed)
    with pytest.raises(ValueError, match="a bug of ours"):
        build(config(a={"_target_": "interp_refiner.core.derived_seed"}).a)


def test_a_call_that_hydra_forbids_is_a_refusal() -> None:
    with pytest.raises(Refused, match=r"^a: Target 'builtins.type' cannot be used for dynamic class construction"):
        build(config(a={"_target_": "builtins.type", "_args_": ["Name", [], {}]}).a)


def test_devices_that_are_not_there() -> None:
    cfg = config(trainer={"_target_": "lightning.pytorch.Trainer", "accelerator": "gpu", "devices": 4096})
    with pytest.raises(Refused, match=r"^trainer: "):
        build(cfg.trainer)


def test_the_real_trainer_takes_the_projects_config() -> None:
    trainer = build(
        config(trainer={"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "max_steps": 3}).trainer,
        logger=False,
        enable_checkpointing=False,
    )
    assert isinstance(trainer, Trainer)
    assert trainer.max_steps == 3
