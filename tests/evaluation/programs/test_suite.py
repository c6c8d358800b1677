"""The suite stays within its budget, and no part stops another."""

import json
import sys
import time
from dataclasses import dataclass, replace

import pytest
from omegaconf import OmegaConf

from interp_refiner.core import BadValue
from interp_refiner.evaluation.programs.suite import Suite, rows_table, step_table
from interp_refiner.evaluation.programs.suite_part import BenchmarkPart, Part, PytestPart, marked_files
from tests.helpers import CONF, build


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
        "hangs": Script(1.5, ["import time; time.sleep(60)"]),
        "breaks": Script(20.0, ["raise ValueError('on purpose')"]),
        "small": Script(20.0, ["raise ValueError"], [WRITES]),
        "silent": Script(20.0, ["print('nothing')"]),
    }
    start = time.monotonic()
    found = Suite(parts, str(tmp_path), 62.0, device="cpu", small=True).run("cpu")
    assert time.monotonic() - start < 50
    rows = found["parts"]
    assert "ValueError: on purpose" in rows["breaks"]["error"]
    assert rows["hangs"]["error"] == "cut off after 2 s"
    assert rows["small"]["result"] == {"figure": 7}
    assert "error" not in rows["small"]
    assert rows["silent"]["error"] == "it left no result: nothing"
    assert json.loads((tmp_path / "suite.json").read_text()) == found
    table = (tmp_path / "suite.md").read_text()
    assert "| small |" in table
    assert "| 7 |" in table


def test_what_finds_no_time_left_is_not_run(tmp_path):
    parts = {"first": Script(20.0, ["import time; time.sleep(60)"]), "second": Script(20.0, [WRITES])}
    suite = Suite(parts, str(tmp_path), 40.0, device="cpu", small=True)
    suite.seconds = 1.5  # as if what came before had taken longer than its part
    found = suite.run("cpu")
    assert "cut off" in found["parts"]["first"]["error"]
    assert found["parts"]["second"]["error"] == "not run: no time was left"
    assert found["seconds"] < 15


def test_a_part_may_take_what_those_before_it_left_over(tmp_path):
    parts = {"quick": Script(20.0, [WRITES]), "slow": Script(0.1, [f"import time; time.sleep(0.5); {WRITES}"])}
    found = Suite(parts, str(tmp_path), 20.1, device="cpu", small=True).run("cpu")["parts"]
    assert found["slow"]["result"] == {"figure": 7}
    assert "error" not in found["slow"]


def test_tests_are_counted_by_outcome(tmp_path):
    output = "tests/a.py::one PASSED [ 5%]\ntests/a.py::two FAILED [10%]\nFAILED tests/a.py::two - boom\n"
    part = PytestPart(1.0)
    found = part.result(tmp_path, output + "tests/b.py::three[x] SKIPPED (no GPU)\n")
    assert found == {"passed": 1, "failed": 1, "error": 0, "skipped": 1, "failures": ["tests/a.py::two"]}
    assert part.fault(found) is None
    assert part.fault(part.result(tmp_path, "tests/b.py::three[x] SKIPPED (no GPU)\n")) == "no test passed"


def test_tests_for_a_gpu_are_found_in_every_file_that_holds_some(tmp_path):
    files = marked_files("gpu")
    assert {"tests/model/attention/test_kernels.py", "tests/model/backbone/test_compile.py"} <= set(files)
    assert "tests/test_house.py" not in files
    command = PytestPart(1.0).command(tmp_path, small=False)
    assert command[-len(files) :] == files
    assert command[command.index("-m", 3) :][:2] == ["-m", "gpu"]


def test_where_every_test_is_skipped_the_part_fails(tmp_path):
    file = tmp_path / "test_nothing.py"
    file.write_text("import pytest\n\n@pytest.mark.skip(reason='no GPU')\ndef test_it(): pass\n")
    parts = {"tests": PytestPart(60.0, small=[str(file)])}
    found = Suite(parts, str(tmp_path), 60.0, device="cpu", small=True).run("cpu")["parts"]["tests"]
    assert found["result"]["skipped"] == 1
    assert found["error"].startswith("no test passed: ")


def test_tables_show_steps_beside_the_first_and_rows_with_gaps():
    step = {"step_ms": 200.0, "parts_ms": {"forward": 60.0}, "corruption_share": 0.004, "mfu": None}
    step |= {"peak_memory_gb": 90.0, "generated_kernels": 40}
    table = step_table({"recipe": step, "slow": {**step, "step_ms": 300.0}})
    assert "| slow | 300 | 1.5 | 60 | 0.004 | – | 90 | 40 |" in table
    assert "| a | – |" in rows_table({"rows": [{"name": "a"}, {"name": "b", "ms": 1.25}]})


def test_a_machine_without_a_gpu_and_unknown_parts_are_refused(tmp_path):
    with pytest.raises(
        BadValue, match=r"benchmark.device=cuda: expected cpu with benchmark.small=true, on this machine"
    ):
        Suite({}, str(tmp_path)).run("cpu")
    with pytest.raises(BadValue, match="small=False"):
        Suite({}, str(tmp_path), device="cpu")
    with pytest.raises(BadValue, match="did you mean 'step'"):
        Suite({"step": Script(1.0)}, str(tmp_path), device="cpu", small=True, only=["stp"])


def test_parts_that_do_not_fit_into_the_time_are_refused(tmp_path):
    parts = {"step": Script(200.0), "tests": Script(400.0)}
    with pytest.raises(
        BadValue, match=r"seconds=540\.0: expected at least 600 for step, tests, or fewer parts in only"
    ):
        Suite(parts, str(tmp_path), 540.0, device="cpu", small=True)
    assert list(Suite(parts, str(tmp_path), 540.0, device="cpu", small=True, only=["tests"]).parts) == ["tests"]


def suite_in_miniature(tmp_path, *overrides):
    small = ["benchmark.device=cpu", "benchmark.small=true", f"benchmark.folder={tmp_path}", *overrides]
    return build("benchmark", "gpu_suite", *small)


def test_the_suite_as_it_is_takes_nine_minutes_and_its_parts_fit_into_them(tmp_path):
    suite = suite_in_miniature(tmp_path)
    assert list(suite.parts) == ["step", "tests", "attention", "inference", "dense", "corruption"]
    assert sum(part.seconds for part in suite.parts.values()) <= suite.seconds <= 540


def unhurried(suite):
    """The suite with an hour for every part: this machine has other work."""
    suite.parts = {name: replace(part, seconds=3600.0) for name, part in suite.parts.items()}
    suite.seconds = 3600.0 * len(suite.parts)
    return suite


@pytest.mark.timeout(1800)
def test_the_suite_runs_a_step_in_miniature(tmp_path, program, monkeypatch):
    """In this process; the soak runs all parts as the programs they are, the GPU tests among them."""

    def here(command, seconds, output, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        _, _, module, *arguments = command
        done = program(module.removeprefix("interp_refiner."), *arguments)
        output.write(done.stdout + done.stderr)
        return done.returncode

    monkeypatch.setattr("interp_refiner.evaluation.programs.suite.run_within", here)
    suite = unhurried(suite_in_miniature(tmp_path, "benchmark.only=[step]"))
    parts = suite.run("cpu")["parts"]
    assert {name: part["error"] for name, part in parts.items() if "error" in part} == {}
    assert parts["step"]["result"]["step_ms"] > 0
    assert parts["step"]["result"]["attention"]["backend"] == "auto"
    written = (tmp_path / "suite.json").read_text()
    assert str(tmp_path) not in written  # no file of this machine
    assert json.loads(written)["parts"].keys() == parts.keys()
    table = (tmp_path / "suite.md").read_text()
    assert "| step |" in table
    assert f"torch {parts['step']['result']['versions']['torch']}" in table


@pytest.mark.soak
@pytest.mark.parametrize("only", ["default", "null"])
def test_the_whole_suite_runs_in_miniature(tmp_path, only):
    overrides = ["benchmark.only=null", "benchmark.seconds=7000.0"] if only == "null" else []
    parts = unhurried(suite_in_miniature(tmp_path, *overrides)).run("cpu")["parts"]
    missing = "flash4"  # no package, or no GPU
    assert parts["tests"]["result"]["passed"] > 0
    assert {name: part["error"] for name, part in parts.items() if "error" in part and name != missing} == {}


@pytest.mark.parametrize(
    ("gigabytes", "scale"), [(150.1, "h200"), (85.0, "h100"), (51.0, "a6000"), (25.4, "rtx4090"), (24.0, "rtx4090")]
)
def test_a_suite_takes_the_largest_scale_that_fits_the_gpu(gigabytes, scale, tmp_path):
    suite = build("benchmark", "gpu_suite", f"benchmark.folder={tmp_path}")
    assert suite.scale(gigabytes) == scale
    told = {name: f"scale={scale}" in part.at(scale).arguments for name, part in suite.parts.items()}
    assert {name for name, at in told.items() if at} == {"step", "inference", "dense"}


def test_the_memory_of_scales_is_that_of_their_own_files_and_a_small_gpu_is_refused(tmp_path):
    suite = build("benchmark", "gpu_suite", f"benchmark.folder={tmp_path}")
    own = {name: OmegaConf.load(CONF / f"scale/{name}.yaml").gpu_gb for name in suite.scales}
    assert suite.scales == own
    with pytest.raises(BadValue, match=r"benchmark\.device=cuda: expected a GPU of at least 24 GB.*has 12"):
        suite.scale(12.0)
    assert Suite(suite.parts, str(tmp_path)).scale(12.0) is None
