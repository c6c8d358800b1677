"""The commands that README.md and docs/ print are commands of these programs: every key and option in them exists."""

import importlib
import re
import shlex
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.config.test_compose import composed

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"-m interp_refiner\.(\w+) *(.*)")


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """The programs in a document's blocks of commands with their overrides, optional ones too; of a sweep the first."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in [] if language else block.replace("\\\n", " ").splitlines():
            plain = re.sub(r"<[^<>]*>", "somewhere", line.partition(" #")[0])
            plain = re.sub(r"(?<= )\[([^\]]*)\]", r"\1", plain)  # [optional]
            if line.startswith("$") or "--config-dir" in plain or plain.rstrip().endswith("..."):
                continue  # what a program answers; options of a user's own folder; a part of a command
            if (command := COMMAND.search(plain)) is None:
                continue
            program, words = command[1], shlex.split(command[2])
            if program == "prepare":
                program, words = f"prepare/{words[0]}", words[1:]
            given = [word for word in words if "=" in word]
            if "-m" in words:
                given = [re.sub(r"^([^=\[]+=[^,\[({]*),[^\[({]*$", r"\1", word) for word in given]
            given += ["runs=[somewhere]"] * (program == "report" and words[0] == "somewhere")
            found.append((program, given))
    return found


def test_a_command_is_read_as_a_reader_would():
    text = (
        "```yaml\na: 1\n```\n```\npython -m interp_refiner.train -m +a=<x y> b=1,2 c=[1,2] \\\n    [d=3]   # why\n```\n"
    )
    assert commands_of(text) == [("train", ["+a=somewhere", "b=1", "c=[1,2]", "d=3"])]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_printed_commands_fit_the_signatures_of_what_they_build(document, tmp_path, monkeypatch):
    """Without the rules of each program's settings, which need the files that the documents name."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for program, overrides in commands_of(document.read_text()):
        module, _, command = program.partition("/")
        checks = getattr(importlib.import_module(f"interp_refiner.{module}"), command or module).program
        with (
            patch.object(checks.settings, "check", lambda cfg: None),
            patch("torch.cuda.is_available", lambda: True),
            patch("torch.cuda.device_count", lambda: 8),
        ):
            checks.check_before(composed(program, *overrides), str(tmp_path))


def test_the_readme_prints_commands():
    assert len(commands_of((ROOT / "README.md").read_text())) >= 10
