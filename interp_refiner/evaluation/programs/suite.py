"""Runs programs one after another within a time budget, and collects their results."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch

from interp_refiner.core import NOTHING, BadValue, choice
from interp_refiner.evaluation.programs.suite_part import ROOT, Part
from interp_refiner.evaluation.records.markdown import markdown_table
from interp_refiner.training.record import portable_command

LAST_LINES = 12  # of what a failed program printed
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@final
class Suite:
    """Runs parts one after another within a time budget; a part that fails or is cut off does not stop the others.

    Args:
        parts: by name, in order.
        folder: output folder: ``suite.json`` and ``suite.md``, written after every part, and each part's output.
        seconds: budget for all parts; their own limits must fit into it. A part is skipped if no time is left.
        device: ``cuda``, or ``cpu`` with ``small``.
        small: miniature mode, which shows that the suite works but not how fast.
        only: parts to run; None for all of them.
        scales: GPU memory in GB that each scale needs, by name; parts run at the largest scale that fits.

    Raises:
        BadValue: an unknown part, parts that do not fit into the budget, or the CPU at full size.
    """

    def __init__(
        self,
        parts: dict[str, Part],
        folder: str,
        seconds: float = 530.0,
        device: str = "cuda",
        small: bool = False,
        only: Sequence[str] | None = None,
        scales: Mapping[str, float] | None = None,
    ):
        choice("device", device, ("cuda", "cpu"))
        if device == "cpu" and not small:
            raise BadValue("small", small, "true with device=cpu")
        for name in only or ():
            choice("only", name, parts)
        self.parts = {name: part for name, part in parts.items() if only is None or name in only}
        needed = sum(part.seconds for part in self.parts.values())
        if needed > seconds:
            names = ", ".join(self.parts)
            raise BadValue("seconds", seconds, f"at least {needed:g} for {names}, or fewer parts in only")
        self.folder, self.seconds, self.device, self.small = Path(folder).absolute(), seconds, device, small
        self.scales = scales or {}

    def scale(self, gigabytes: float) -> str | None:
        """The largest scale that fits a GPU with this memory; None if there are no scales.

        Raises:
            BadValue: all scales need larger GPUs.
        """
        fitting = {name: needed for name, needed in self.scales.items() if needed <= gigabytes}
        if self.scales and not fitting:
            smallest = min(self.scales, key=lambda name: self.scales[name])
            allowed = f"a GPU of at least {self.scales[smallest]:g} GB, as scale={smallest} has; this one has"
            raise BadValue("benchmark.device", self.device, f"{allowed} {gigabytes:.0f}")
        return max(fitting, key=lambda name: fitting[name], default=None)

    def run(self, device: str) -> dict[str, Any]:
        """Every part's seconds with its ``result`` or ``error``.

        Raises:
            BadValue: a machine without a GPU.
        """
        if self.device == "cuda" and device != "cuda":
            allowed = "cpu with benchmark.small=true, on this machine without a GPU"
            raise BadValue("benchmark.device", self.device, allowed)
        if self.device == "cuda" and not self.small:
            chosen = self.scale(torch.cuda.get_device_properties(0).total_memory / 1e9)
            if chosen is not None:
                self.parts = {name: part.at(chosen) for name, part in self.parts.items()}
        start, later = time.monotonic(), sum(part.seconds for part in self.parts.values())
        rows: dict[str, dict[str, Any]] = {}
        found: dict[str, Any] = {"small": self.small, "seconds": 0.0, "parts": rows}
        for name, part in self.parts.items():
            later -= part.seconds
            left = self.seconds - (time.monotonic() - start)
            rows[name] = self._run(name, part, min(left, max(part.seconds, left - later)))
            found["seconds"] = round(time.monotonic() - start, 1)
            self._write("suite.json", json.dumps(found, indent=2) + "\n")
            self._write("suite.md", self.markdown(found))
        return found

    def markdown(self, found: dict[str, Any]) -> str:
        """A Markdown report: the parts with their outcome, then the results of each kind."""
        rows = [[name, f"{row['seconds']:.0f}", row.get("error", "done")] for name, row in found["parts"].items()]
        results = {name: row["result"] for name, row in found["parts"].items() if row.get("result")}
        steps = {name: result for name, result in results.items() if "step_ms" in result}
        tables = [described(results), markdown_table(["part", "s", "outcome"], rows)]
        tables += [step_table(steps)] if steps else []
        tables += [f"**{name}**\n\n{rows_table(result)}" for name, result in results.items() if name not in steps]
        return "\n".join(tables)

    def _run(self, name: str, part: Part, seconds: float) -> dict[str, Any]:
        if seconds < 1:
            return {"seconds": 0.0, "error": "not run: no time was left"}
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        start, command = time.monotonic(), part.command(folder, self.small)
        with open(folder / "output.txt", "w+") as output:
            code = run_within(command, seconds, output, OFFLINE | self._environment())
            output.seek(0)
            printed = output.read()
        taken, typed = round(time.monotonic() - start, 1), portable_command(shlex.join(["python", *command[1:]]))
        row: dict[str, Any] = {"seconds": taken, "command": typed, "result": {}}
        try:
            row["result"] = part.result(folder, printed)
        except Exception as error:  # a failed program may leave invalid files
            printed += f"\n{type(error).__name__}: {error}"
        if code is None:
            row["error"] = f"cut off after {seconds:.0f} s"
        elif code != 0:
            row["error"] = f"exit code {code}: {last_lines(printed)}"
        elif (fault := part.fault(row["result"])) is not None:
            row["error"] = f"{fault}: {last_lines(printed)}"
        return row

    def _environment(self) -> dict[str, str]:
        """Environment variables: hide GPUs on a CPU; in miniature mode, use separate data and cache folders."""
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        return hidden | ({"INTERP_REFINER_CACHE": str(self.folder / "cache")} if self.small else {})

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)


def run_within(command: list[str], seconds: float, output: Any, environment: dict[str, str]) -> int | None:
    """The exit code of a program; None if it was killed, with its child processes, after ``seconds``."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | environment,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def described(results: dict[str, dict[str, Any]]) -> str:
    """Device, versions and commit, from the first part that reports them."""
    about = next((result for result in results.values() if "device" in result), None)
    if about is None:
        return ""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    dirty = " with changes" if about["git_dirty"] else ""
    return f"{about['device']}; {versions}; commit {about['git_commit'] or 'unknown'}{dirty}\n"


def last_lines(text: str) -> str:
    """The last lines of a program's output, joined into one line."""
    return " / ".join(line.strip() for line in text.splitlines()[-LAST_LINES:] if line.strip())


def step_table(steps: dict[str, dict[str, Any]]) -> str:
    """One row per measured step, with its time relative to the first. Parts in milliseconds, shares in 0..1."""
    parts = list(next(iter(steps.values()))["parts_ms"])
    first = next(iter(steps.values()))["step_ms"]
    rows = [
        [
            name,
            *(cell(value) for value in (step["step_ms"], step["step_ms"] / first)),
            *(cell(step["parts_ms"][part]) for part in parts),
            *(cell(step[key]) for key in ("corruption_share", "mfu", "peak_memory_gb", "generated_kernels")),
        ]
        for name, step in steps.items()
    ]
    return markdown_table(
        ["step", "ms", "/ first", *parts, "corruption share", "MFU", "peak GB", "generated kernels"], rows
    )


def rows_table(result: dict[str, Any]) -> str:
    """The rows of a result as a table, or its values if it has no rows."""
    rows = result.get("rows") or [{k: v for k, v in result.items() if isinstance(v, int | float)}]
    headings = list(dict.fromkeys(key for row in rows for key in row))
    return markdown_table(headings, [[cell(row.get(key)) for key in headings] for row in rows])


def cell(value: Any) -> str:
    """A number with four digits; other values unchanged."""
    if value is None:
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
