"""A sweep through submitit: one job each, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")


@pytest.mark.soak
def test_a_sweep_runs_its_jobs_through_the_local_launcher(tmp_path):
    command = [sys.executable, "-m", "tests.entry.toy_program", "-m", "hydra/launcher=submitit_local"]
    command += [f"hydra.sweep.dir={tmp_path}", "hydra.launcher.timeout_min=5", "corruption=dist,gauss"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, env=dict(os.environ), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    printed = [path.read_text() for path in (tmp_path / ".submitit").glob("*/*_log.out")]
    assert len(printed) == 2
    assert all("done: sigma" in text for text in printed)
