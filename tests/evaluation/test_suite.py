"""The suite: within its budget, and no part stops another."""

import json
import sys
import time
from dataclasses import dataclass

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.evaluation.suite import BenchmarkPart, Part, PytestPart, Suite, rows_table, step_table
from tests.helpers import build


@dataclass(frozen=True)
class Script(Part):
    """Python code that may write a result."""

    def command(self, folder, small):
        return [sys.executable, "-c", self.chosen(small)[-1], str(folder)]

    def result(self, folder, output):
        return BenchmarkPart.result(self, folder, output)


WRITES = "import sys; open(sys.argv[1] + '/benchmark.json', 'w').write('{\"figure\": 7}')"


def test_parts_that_fail_or_take_too_long_are_told_and_stop_no_other(tmp_path):
    parts = {
        "breaks": Script(20.0, ["raise ValueError('on purpose')"]),
        "hangs": Script(1.5, ["import time; time.sleep(60)"]),
        "small": Script(20.0, ["raise ValueError"], [WRITES]),
        "silent": Script(20.0, ["print('nothing')"]),
    }
    start = time.monotonic()
    found = Suite(parts, str(tmp_path), 60.0, device="cpu", small=True).run("cpu")
    assert time.monotonic() - start < 50
    rows = found["parts"]
    assert "ValueError: on purpose" in rows["breaks"]["error"]
    assert rows["hangs"]["error"] == "cut off after 2 s"
    assert rows["small"]["result"] == {"figure": 7}
    assert "error" not in rows["small"]
    assert "exit code 0: nothing" in rows["silent"]["error"]
    assert json.loads((tmp_path / "suite.json").read_text()) == found
    table = (tmp_path / "suite.md").read_text()
    assert "| small |" in table
    assert "| 7 |" in table


def test_what_finds_no_time_left_is_not_run(tmp_path):
    parts = {"first": Script(20.0, ["import time; time.sleep(60)"]), "second": Script(20.0, [WRITES])}
    found = Suite(parts, str(tmp_path), 1.5, device="cpu", small=True).run("cpu")
    assert "cut off" in found["parts"]["first"]["error"]
    assert found["parts"]["second"]["error"] == "not run: no time was left"
    assert found["seconds"] < 15


def test_tests_are_counted_by_outcome(tmp_path):
    output = "tests/a.py::one PASSED [ 5%]\ntests/a.py::two FAILED [10%]\nFAILED tests/a.py::two - boom\n"
    found = PytestPart(1.0).result(tmp_path, output + "tests/b.py::three[x] SKIPPED (no GPU)\n")
    assert found == {"passed": 1, "failed": 1, "error": 0, "skipped": 1, "failures": ["tests/a.py::two"]}


def test_tables_show_steps_beside_the_first_and_rows_with_gaps():
    step = {"step_ms": 200.0, "parts_ms": {"forward": 60.0}, "corruption_share": 0.004, "mfu": None}
    step |= {"peak_memory_gb": 90.0, "generated_kernels": 40}
    table = step_table({"recipe": step, "slow": {**step, "step_ms": 300.0}})
    assert "| slow | 300 | 1.5 | 60 | 0.004 | – | 90 | 40 |" in table
    assert "| a | – |" in rows_table({"rows": [{"name": "a"}, {"name": "b", "ms": 1.25}]})


def test_a_machine_without_a_gpu_and_unknown_parts_are_refused(tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(BadValue, match=r"device=cuda: expected a machine with a GPU, or in miniature device=cpu"):
            Suite({}, str(tmp_path))
    with pytest.raises(BadValue, match="small=False"):
        Suite({}, str(tmp_path), device="cpu")
    with pytest.raises(BadValue, match="did you mean 'step'"):
        Suite({"step": Script(1.0)}, str(tmp_path), device="cpu", small=True, only=["stp"])


def miniature(tmp_path, *overrides):
    small = ["benchmark.device=cpu", "benchmark.small=true", f"benchmark.folder={tmp_path}", *overrides]
    return build("benchmark", "gpu_suite", *small).run("cpu")["parts"]


@pytest.mark.timeout(1800)
def test_the_suite_runs_a_benchmark_in_miniature(tmp_path):
    part = miniature(tmp_path, "benchmark.only=[attention]", "benchmark.parts.attention.seconds=1500.0")["attention"]
    assert "error" not in part
    assert {row["attention"] for row in part["result"]["rows"]} >= {"dense_sdpa", "sparse_linear_10"}


@pytest.mark.soak
def test_the_whole_suite_runs_in_miniature(tmp_path):
    parts = miniature(tmp_path, "benchmark.seconds=7000.0")
    failed = {name: part.get("error") for name, part in parts.items() if "error" in part and name != "flash4"}
    assert failed == {}
