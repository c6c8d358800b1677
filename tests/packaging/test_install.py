"""``.ci/install`` on machines that lack something, simulated by small scripts in a PATH of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "tail", "cat", "touch", "mkdir", "rm")

# An interpreter that says whether it is new enough and has ensurepip; its environments only look like some.
FAKE_PYTHON = """#!/bin/sh
case "$2" in
    *version_info\\ \\<*) exit {too_old} ;;
    *ensurepip*) [ -e "{ensurepip}" ]; exit ;;
    *python%d*) echo python3.11-venv ;;
esac
case "$1 $2" in
    "--version "*) echo "Python 3.11.2" ;;
    "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip") echo "pip $*" >>calls; exit {pip_fails} ;;
esac
"""


class Machine:
    """A directory with a checkout and a PATH of scripts."""

    def __init__(self, folder: Path):
        self.checkout, self.bin, self.ensurepip = folder / "checkout", folder / "bin", folder / "ensurepip"
        (self.checkout / ".ci").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / ".ci/install", self.checkout / ".ci/install")
        for tool in (*TOOLS, "cp"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.script("id", "#!/bin/sh\necho 0\n")

    def script(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, *, too_old: bool = False, pip_fails: bool = False) -> None:
        text = FAKE_PYTHON.format(too_old=int(too_old), ensurepip=self.ensurepip, pip_fails=int(pip_fails))
        self.script("python3", text)

    def install(self) -> subprocess.CompletedProcess[str]:
        command = [str(self.checkout / ".ci/install")]
        return subprocess.run(command, env={"PATH": str(self.bin)}, capture_output=True, text=True, timeout=60)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_old_python_is_refused(machine: Machine) -> None:
    machine.python(too_old=True)
    done = machine.install()
    assert done.returncode == 1
    assert done.stderr.startswith("needs Python 3.11 or newer")
    assert not (machine.checkout / ".venv").exists()


def test_without_ensurepip_and_apt_the_one_command_is_printed(machine: Machine) -> None:
    machine.python()
    done = machine.install()
    assert done.returncode == 1
    assert done.stderr.endswith("then make again: sudo apt-get install -y python3.11-venv\n")


def test_a_user_who_may_not_install_gets_the_command_too(machine: Machine) -> None:
    machine.python()
    machine.script("id", "#!/bin/sh\necho 1000\n")
    machine.script("sudo", "#!/bin/sh\nexit 1\n")
    machine.script("apt-get", "#!/bin/sh\ntouch asked\n")
    assert machine.install().returncode == 1
    assert not (machine.checkout / "asked").exists()


def test_root_gets_the_missing_package(machine: Machine) -> None:
    machine.python()
    machine.script(
        "apt-get", f'#!/bin/sh\necho "apt-get $*" >>calls\n[ "$1" = install ] && touch {machine.ensurepip}\ntrue\n'
    )
    done = machine.install()
    assert done.returncode == 0, done.stderr
    calls = (machine.checkout / "calls").read_text().splitlines()
    assert calls[:2] == ["apt-get update -qq", "apt-get install -y -qq python3.11-venv"]
    assert [call.split("-c constraints.txt ")[1] for call in calls[2:]] == ["torch", "-e .[dev]"]


def test_a_failing_pip_shows_its_log(machine: Machine) -> None:
    machine.python(pip_fails=True)
    machine.ensurepip.touch()
    done = machine.install()
    assert done.returncode == 1
    assert done.stderr == "installation failed; all of it is in .venv/install.log\n"
    assert not (machine.checkout / ".venv/.installed").exists()


def test_make_installs_again_when_the_constraints_change(tmp_path: Path) -> None:
    """The stamp depends on what decides the environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/install").write_text("#!/bin/sh\nmkdir -p .venv\necho installing\n")
    (tmp_path / ".ci/install").chmod(0o755)

    def make() -> str:
        done = subprocess.run(["make", "install"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    assert "installing" in make()
    assert "installing" not in make()
    os.utime(tmp_path / "constraints.txt", (sys.maxsize % 2**32, sys.maxsize % 2**32))
    assert "installing" in make()
