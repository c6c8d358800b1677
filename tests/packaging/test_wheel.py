"""A wheel carries the config groups, and the programs run from it in any directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_program_runs_from_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")

    packed = {str(path.relative_to(tmp_path / "installed/interp_refiner")) for path in tmp_path.rglob("*.yaml")}
    assert packed == {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}

    weights = "interp_refiner/weights/moving_shapes/refiner.safetensors"
    assert (tmp_path / "installed" / weights).read_bytes() == (ROOT / weights).read_bytes()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    run = [sys.executable, "-m", "interp_refiner.train", "--cfg", "all", "+experiment=gt_keyframes"]
    done = subprocess.run(run, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"path: {tmp_path}/installed/interp_refiner/conf" in done.stdout
    assert "_target_: interp_refiner.model.backbone.Factorised" in done.stdout
    assert not any(elsewhere.iterdir())
