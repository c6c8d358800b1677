"""Set up before any test module is imported, and what all of them share."""

import gc
import logging
import os
import re
import sys
from collections.abc import Generator
from dataclasses import dataclass
from runpy import run_module

import pytest

# whoever only deals tests to workers needs no torch, which takes seconds in which no worker has begun
if "PYTEST_XDIST_WORKER" in os.environ or not re.search(" -n ?[1-9al]", " ".join(sys.argv)):
    from tests import set_up  # noqa: F401


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Under ``--dist loadgroup``: those that share a fixture of a module or of a folder run in one worker.

    The worker says so at the end of a test's id. xdist 3.8 writes where pytest 9.2 no longer has the id.
    """
    for item in items:
        fixtures = [found[-1] for found in item._fixtureinfo.name2fixturedefs.values()]
        places = [fixture.baseid for fixture in fixtures if fixture.scope != "function" and fixture.baseid]
        if places and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(min(places, key=len)))
    yield
    for item in items if getattr(config.option, "loadgroup", False) else ():
        group = item.get_closest_marker("xdist_group")
        if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
            item._id = type(item._id).parse(f"{item.nodeid}@{group.args[0]}")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector, which took a second for it again and again, lets it be."""
    gc.collect()
    gc.freeze()


@dataclass
class Done:
    """What a program left: as :class:`subprocess.CompletedProcess` tells it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def program(tmp_path, monkeypatch, capfd):
    """Runs a program in this process as its command line would: ``program("benchmark", "benchmark=reader")``."""
    for name in ("CACHE", "LOGS", "DATA"):
        monkeypatch.setenv(f"INTERP_REFINER_{name}", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)

    import torch

    def run(name: str, *arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        logging.root.handlers.clear()  # Hydra's last handlers write to the stderr of the run before
        capfd.readouterr()
        code, threads = 0, torch.get_num_threads()
        try:
            run_module(f"interp_refiner.{name}", run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        finally:
            torch.set_num_threads(threads)
        return Done(code, *capfd.readouterr())

    return run
