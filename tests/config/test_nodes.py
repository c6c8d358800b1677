"""Walking through a config: every entry once, where it is written."""

from omegaconf import OmegaConf

from interp_refiner.config.nodes import home, target_nodes, walk, without

CONFIG = OmegaConf.create(
    {
        "a": {"_target_": "x.A", "b": "${b}", "list": [{"_target_": "x.C"}, 3], "gap": "???"},
        "b": {"_target_": "x.B", "c": "${a.list.0}"},
        "none": None,
    }
)
OmegaConf.set_struct(CONFIG, True)  # as Hydra composes it


def test_every_entry_once() -> None:
    keys = [key for key, _, _ in walk(CONFIG)]
    assert len(keys) == len(set(keys))
    assert set(keys) >= {"a", "a.b", "a.list", "a.list.0", "a.list.0._target_", "a.list.1", "a.gap", "b.c", "none"}
    assert not any(key.startswith("a.b.") for key in keys)


def test_target_nodes_at_their_home() -> None:
    assert [key for key, _ in target_nodes(CONFIG)] == ["a", "a.list.0", "b"]


def test_home() -> None:
    assert home(CONFIG.a.b) == "b"
    assert home(CONFIG.a.b.c) == home(CONFIG.a.list[0]) == "a.list.0"  # through two interpolations
    assert home(CONFIG.a.list) == "a.list"
    assert home(CONFIG) == ""


def test_without() -> None:
    assert set(without(CONFIG, "a", "elsewhere")) == {"b", "none"}
    assert home(without(CONFIG, "b").a.list[0]) == "a.list.0"
