import math

import pytest

from interp_refiner.core import BadValue, MissingExtra, at_least, choice, non_negative, one_fault, positive, suggestion


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-9])
def test_a_number_without_a_meaning_is_refused_also_where_a_comparison_would_pass_it(value):
    for check in (positive, non_negative):
        with pytest.raises(BadValue, match=rf"^weight={value}: expected a finite number >=? 0, of a loss"):
            check("weight", value, "of a loss")
    with pytest.raises(BadValue):
        positive("weight", 0.0)
    assert (positive("weight", 1e-9), non_negative("weight", 0.0, "")) == (1e-9, 0.0)


def test_the_first_number_that_is_too_small_is_named():
    at_least(1, steps=1, rounds=2)
    with pytest.raises(BadValue, match=r"^rounds=0: expected at least 1$"):
        at_least(1, steps=1, rounds=0, least=-1)
