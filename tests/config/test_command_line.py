"""Parsing of arguments: values that contain Hydra's own signs, folders of options, grids."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.config.command_line import CommandLine, as_meant, assigned, jobs, quoted

NAMES = [
    "josé/run",
    "runs/sigma=0.5,lr=0.001",
    "cats [1] (2).yaml",
    "runs (1)/a=b,[c]",
    "it's",
    "a\\",
    "2026-01-01T12:30:00.mp4",
]


def value_of(text: str) -> object:
    return OverridesParser.create().parse_override(text).value()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("multirun", [False, True])
def test_a_text_setting_means_what_it_says(name, multirun):
    if multirun and "," in name and "[" not in name:
        pytest.skip("a sweep")
    assert value_of(as_meant(f"checkpoint={name}", ["checkpoint"], multirun)) == name


@given(st.text(st.characters(exclude_categories=["C"], exclude_characters="$"), min_size=1))
def test_quoted_text_comes_back(text):
    assert value_of(f"key={quoted(text)}") == text


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
LETTERS = st.characters(exclude_categories=["C"], exclude_characters="$")


@settings(max_examples=40)
@given(
    st.recursive(
        PLAIN | st.text(LETTERS), lambda v: st.lists(v) | st.dictionaries(st.from_regex(r"\A[a-z]+\Z"), v), max_leaves=5
    )
)
def test_a_plain_value_comes_back_with_its_type(value):
    assert value_of(assigned("key", value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "seed",
        "corruption=gauss",
        "counts=[1,2]",
        "sigma=0.1,0.2",
        "checkpoint=null",
        "checkpoint='a,b'",
        "root=${paths.root}",
    ],
)
def test_what_the_grammar_reads_stays_as_it_is(text):
    assert as_meant(text, ["checkpoint"], False) == text


@settings(max_examples=30)
@given(st.lists(st.from_regex(r"\Aé[a-z./ (0-9)]*[a-z)]\Z")))
def test_a_list_of_names_is_a_list(names):
    names = [*names, "josé/run"]
    assert value_of(as_meant(f"checkpoint=[{','.join(names)}]", [], False)) == names


def test_what_the_grammar_reads_in_a_list_of_names_stays():
    assert value_of(as_meant("x=[josé,'a,b', 3,null]", [], False)) == ["josé", "a,b", 3, None]


@pytest.mark.parametrize("prompt", ["'quoted' start", "'s-Hertogenbosch", '"a" and "b"'])
def test_a_text_may_begin_with_a_quote(prompt):
    assert value_of(as_meant(f"prompt={prompt}", ["prompt"], False)) == prompt


def test_a_sweep_over_text_stays_a_sweep():
    assert as_meant("checkpoint=a,b", ["checkpoint"], True) == "checkpoint=a,b"


def test_a_value_that_is_a_file_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_meant("data.root=a,b", [], True) == "data.root=a,b"
    Path("a,b").mkdir()
    assert value_of(as_meant("data.root=a,b", [], True)) == "a,b"


def test_jobs_are_the_product_of_what_is_swept():
    found = list(jobs(["a=1,2", "b=x", "c=range(0,4,2)", "d=interval(0.5,2)", "~e"]))
    assert [job[0] + job[2] for job in found] == ["a=1c=0", "a=1c=2", "a=2c=0", "a=2c=2"]
    assert {job[1] for job in found} == {"b=x"}
    assert {job[3] for job in found} == {"d=0.5"}
    assert {job[4] for job in found} == {"~e"}


def test_a_folder_of_options_joins_those_of_the_search_path(tmp_path):
    line = CommandLine.read(["--config-dir", str(tmp_path), "seed=1", "hydra.searchpath=[pkg://own]", "-m"], [])
    assert line.options.multirun
    *rest, searched = line.composable
    assert rest == ["seed=1"]
    assert value_of(searched) == [f"file://{tmp_path}", "pkg://own"]
