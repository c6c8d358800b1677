"""The programs of a suite: benchmarks, and tests with a mark."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from interp_refiner.training.record import portable_command

ROOT = Path(__file__).resolve().parents[3]  # of a checkout: what programs are run in
TESTS = ROOT / "tests"
RESULT = "benchmark.json"


@dataclass(frozen=True)
class Part(ABC):
    """One program of a suite.

    Attributes:
        seconds: time limit; time that earlier parts did not use is added. The suite's remaining budget limits it, too.
        arguments: command-line arguments.
        small: additional arguments in miniature mode.
        scaled: whether it depends on the machine's size, so that it gets the fitting scale.
    """

    seconds: float
    arguments: Sequence[str] = ()
    small: Sequence[str] = ()
    scaled: bool = False

    @abstractmethod
    def command(self, folder: Path, small: bool) -> list[str]:
        """The command line; the program may write into ``folder``."""

    @abstractmethod
    def result(self, folder: Path, output: str) -> dict[str, Any]:
        """The result, from files in ``folder`` and the output; partial for a program that was cut off."""

    def fault(self, result: dict[str, Any]) -> str | None:
        """The fault in the result of a program that ended with exit code 0; None if there is none."""
        return None if result else "it left no result"

    def at(self, scale: str) -> "Part":
        """The same part with a scale, if it is ``scaled``."""
        return replace(self, arguments=[*self.arguments, f"scale={scale}"]) if self.scaled else self

    def chosen(self, small: bool) -> list[str]:
        return [*self.arguments, *(self.small if small else ())]


@final
@dataclass(frozen=True)
class BenchmarkPart(Part):
    """``python -m interp_refiner.benchmark`` with arguments; the result is its JSON."""

    def command(self, folder: Path, small: bool) -> list[str]:
        return [sys.executable, "-m", "interp_refiner.benchmark", *self.chosen(small), f"hydra.run.dir={folder}"]

    def result(self, folder: Path, output: str) -> dict[str, Any]:
        file = folder / RESULT
        if not file.is_file():
            return {}
        found = json.loads(file.read_text())
        if "command" in found:
            found["command"] = portable_command(found["command"])
        return found


@final
@dataclass(frozen=True)
class PytestPart(Part):
    """pytest on the files that have tests with a mark; the result counts tests by outcome and names failed ones.

    In miniature mode its only arguments are ``small``.

    Attributes:
        mark: of the tests.
    """

    mark: str = "gpu"

    def command(self, folder: Path, small: bool) -> list[str]:
        # without the project's pytest options, which need plugins that a bare machine may lack
        bare = ["-o", "addopts=--import-mode=importlib", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
        chosen = self.small if small else ["-m", self.mark, *self.arguments, *marked_files(self.mark)]
        return [sys.executable, "-m", "pytest", "-v", "-rs", *bare, *chosen]

    def result(self, folder: Path, output: str) -> dict[str, Any]:
        lines = [line for line in output.splitlines() if "::" in line]
        outcomes = {
            outcome.lower(): sorted({_test_name(line) for line in lines if f" {outcome}" in line})
            for outcome in ("PASSED", "FAILED", "ERROR", "SKIPPED")
        }
        failures = outcomes["failed"] + outcomes["error"]
        return {**{name: len(tests) for name, tests in outcomes.items()}, "failures": failures}

    def fault(self, result: dict[str, Any]) -> str | None:
        return None if result.get("passed") else "no test passed"


def marked_files(mark: str) -> list[str]:
    """The test files that contain a mark, relative to the checkout; other files may need packages that are missing."""
    files = sorted(TESTS.rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if f"mark.{mark}" in file.read_text()]


def _test_name(line: str) -> str:
    return next(word for word in line.split() if "::" in word)
