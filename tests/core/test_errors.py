import pytest

from interp_refiner.core import BadValue, MissingExtra, choice, one_fault, suggestion


def test_a_bad_value_says_name_value_allowed_and_nearest():
    with pytest.raises(BadValue) as error:
        choice("law", "geometrc", ["linear", "geometric"])
    assert str(error.value) == "law=geometrc: expected linear | geometric; did you mean 'geometric'?"
    assert (error.value.name, error.value.value) == ("law", "geometrc")


def test_a_good_value_passes_through():
    assert choice("law", "linear", ["linear", "geometric"]) == "linear"


def test_what_a_library_says_becomes_one_line():
    with (
        pytest.raises(BadValue, match=r"^folder=x: expected a model: no such file$") as error,
        one_fault("folder", "x", "a model"),
    ):
        raise OSError("no such\nfile. Visit our documentation")
    assert isinstance(error.value.__cause__, OSError)
    with pytest.raises(BadValue, match="expected a model: KeyError"), one_fault("folder", "x", "a model"):
        raise KeyError
    with pytest.raises(MissingExtra), one_fault("folder", "x", "a model"):
        raise MissingExtra("text=umt5", "ftfy", "wan")


def test_nothing_is_suggested_where_nothing_is_near():
    assert suggestion("xyz", ["linear", "geometric"]) == ""


def test_a_missing_extra_says_how_to_get_it():
    assert str(MissingExtra("attention=flash", "flash-attn", "flash")) == (
        "attention=flash needs flash-attn, which is not installed: pip install 'interp_refiner[flash]'"
    )
