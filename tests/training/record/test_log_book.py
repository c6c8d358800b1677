"""Entries of the log book: one per run, none lost, and nothing about the machine in them."""

import multiprocessing
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from interp_refiner.core import BadValue
from interp_refiner.report import report
from interp_refiner.training.record import LogBook, RunRecord
from interp_refiner.training.record.log_book import UNDECIDED, facts, figures, index

METRICS = {
    f"val/{group}/{name}": value
    for group, ratio in (("mean", 0.5), ("level_10", 0.4), ("level_2", 0.25))
    for name, value in (("ratio", ratio), ("refined_mse", ratio * 2), ("interpolation_mse", 2.0), ("improved_share", 1))
}


def a_record(**fields):
    about = {"experiment": "gt_keyframes", "status": "finished", "started": "2026-03-04T05:06:07+00:00"}
    return RunRecord("0123456789abcdef", **{**about, "metrics": METRICS, **fields})


@pytest.fixture
def book(tmp_path):
    return LogBook(
        tmp_path / "log", {"root": "/home/me/lab", "log_dir": "/fast disk/logs", "cache": "/home/me/lab/cache"}
    )


def test_an_entry_says_what_was_run_and_what_came_out(book):
    settings = {"corruption.sigma": 0.5, "data.writer": None}
    record = a_record(settings=settings, steps=7, git_commit="abc", git_dirty=True, data={"shards": 8})
    path = book.enter(record, Path("/fast disk/logs/train/runs/x"))
    assert path.name == "2026-03-04_05-06-07_gt_keyframes_01234567.md"
    found = facts(path)
    assert found["run"] == "logs/train/runs/x"
    assert found["settings"] == settings
    assert (found["commit"], found["uncommitted changes"], found["steps"]) == ("abc", True, 7)
    assert found["ratio"] == 0.5
    assert found["decision"] == UNDECIDED
    assert "| 2 | 2.0000 | 0.5000 | 0.250 | 100% |" in path.read_text()


def test_levels_come_in_order_and_the_mean_last():
    assert [line.split(" | ")[0] for line in figures(METRICS).splitlines()[2:]] == ["| 2", "| 10", "| mean"]
    assert figures({"val/selector": 1.0}) == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("checkpoint=/home/me/lab/runs/3", "checkpoint=./runs/3"),
        ("data.root=/home/me/lab/cache/x y", "data.root=cache/x y"),
        ("/home/me/laboratory/x", ".../x"),
        ("hydra.run.dir='/tmp/secret/run_7' seed=1", "hydra.run.dir='.../run_7' seed=1"),
        ("--at=/fast disk/logs", "--at=logs"),
        ("s3://bucket/a/b and hf://datasets/x", "s3://bucket/a/b and hf://datasets/x"),
        ("a/b/c and 1/2 of ./d", "a/b/c and 1/2 of ./d"),
    ],
)
def test_places_of_the_machine_are_told_by_name(text, told, book):
    assert book.relative(text) == told


def test_paths_anywhere_in_a_record_are_told_by_name(book):
    where = "/home/me/lab/secret/place"
    record = a_record(
        command=f"python x={where}", data={"pattern": f"{where}/s.tar"}, checkpoints={"a": where},
        settings={"b": where, "c": [where]}, error=f"no {where}", status="failed",
    )  # fmt: skip
    assert "/home/me" not in book.enter(record, Path(where)).read_text()


def enter(book, number):
    book.enter(a_record(steps=number), Path("/x"))


def test_processes_at_once_lose_nothing(book):
    started = [multiprocessing.get_context("fork").Process(target=enter, args=(book, i)) for i in range(8)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    entries = [facts(path) for path in book.folder.iterdir()]
    assert sorted(about["steps"] for about in entries) == list(range(8))


def test_the_table_has_the_entries_with_a_decision_and_a_list_the_others(book):
    settings = {"evaluation.clips": 64, "scales": ["laptop"], "root": "<cache>", "n._target_": "a.b.G"}
    old = book.enter(a_record(settings=settings), Path("/x"))
    new = book.enter(a_record(started="2026-03-05T00:00:00+00:00", status="failed", metrics={}), Path("/x"))
    undecided = book.enter(a_record(started="2026-03-06T00:00:00+00:00"), Path("/x"))
    old.write_text(old.read_text().replace(UNDECIDED, "keep | it\nsince it is better"))
    new.write_text(new.read_text().replace(UNDECIDED, "a typing error"))
    (book.folder / "2020_broken.md").write_text("---\n: [\n---\nno entry\n")
    lines = book.write_index().read_text().splitlines()
    rows = lines[lines.index("|---|---|---|---|---|---|") + 1 :]
    others = rows.index("## Without a decision")
    assert rows[: others - 1] == [
        f"| [2026-03-05 00:00]({new.name}) | gt_keyframes | failed |  |  | a typing error |",
        f"| [2026-03-04 05:06]({old.name}) | gt_keyframes | finished | root=&lt;cache>, n=G | 0.500 | keep \\| it |",
    ]
    assert rows[others + 4 :] == [
        f"- [2026-03-06 00:00]({undecided.name}), gt_keyframes, finished",
        "- [2020_broken.md](2020_broken.md), not an entry",
    ]
    assert book.write_index().read_text().splitlines() == lines  # the index is no entry
    assert index([]).startswith("# Log book")


@pytest.mark.parametrize("kind", ["folder", "bytes", "date", "settings", "ratio"])
def test_what_is_no_entry_is_listed_as_none(book, kind):
    texts = {"date": "date: 2026-13-45", "settings": "settings: [1]", "ratio": "ratio: low"}
    path = book.enter(a_record(), Path("/x")).with_name("odd.md")
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe" if kind == "bytes" else f"---\n{texts[kind]}\n---\n".encode())
    assert "- [odd.md](odd.md), not an entry" in book.write_index().read_text().splitlines()


def test_an_entry_is_yaml_that_anything_reads(book):
    path = book.enter(a_record(settings={"odd: key": "- 'x' #"}, error="a: b\nc"), Path("/x"))
    assert yaml.safe_load(path.read_text().split("---\n")[1])["settings"] == {"odd: key": "- 'x' #"}


def test_no_book_where_none_is_wanted(tmp_path):
    assert LogBook.at(None, {}) is None
    assert LogBook.at(str(tmp_path), {}) == LogBook(tmp_path)


def test_a_report_without_runs_is_the_table_of_the_log_book(book, capsys):
    cfg = OmegaConf.create({"runs": [], "log_book": str(book.folder), "paths": dict(book.places)})
    with pytest.raises(BadValue, match=r"log_book=.*: expected a folder with entries"):
        report(cfg)
    entry = book.enter(a_record(), Path("/x"))
    report(cfg)
    assert capsys.readouterr().out.strip() == str(book.folder / "README.md")
    assert entry.name in (book.folder / "README.md").read_text()
