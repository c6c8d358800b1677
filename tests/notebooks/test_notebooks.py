"""The notebooks run from top to bottom and are committed without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
import torch
from ipywidgets import IntSlider
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from interp_refiner.assemble import assemble
from interp_refiner.config import save_config
from interp_refiner.core import AVERAGED, BadValue
from interp_refiner.evaluation.run.notebook import Animation, steered
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.config.small import SMALL, small_config
from tests.evaluation.comparison.synthetic import sigma_sweep

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
BEFORE = "%reset -f\nfrom tests.quick_compose import install\ninstall()\ndel install"
SHOWN = {  # what each makes at least: tables, animated and still pictures
    "corruption": {"image/gif": 4, "image/png": 2, "text/html": 1},
    "inspect_checkpoint": {"image/gif": 2, "image/png": 1, "text/html": 1},
    "sweep": {"image/png": 5, "text/html": 3},
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks, whose imports take longer than what they do, and one small checkpoint."""
    place = tmp_path_factory.mktemp("notebooks")
    cfg = small_config(
        place,
        *SMALL,
        "backbone=wan_tiny",
        "backbone.size.num_layers=1",
        "backbone.size.ffn_dim=64",
        f"paths.cache={place / 'cache'}",
    )
    weights = assemble(cfg).module.state_dict()
    generator = torch.Generator().manual_seed(0)
    raw = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in weights.items()}
    save_config(cfg, place / "run")
    (place / "run" / LAST_CHECKPOINT).parent.mkdir()
    torch.save({"state_dict": raw, AVERAGED: weights}, place / "run" / LAST_CHECKPOINT)
    chosen = {
        "INTERP_REFINER_CHECKPOINT": str(place / "run"),
        "INTERP_REFINER_SWEEP": str(sigma_sweep(place / "sweep")),
        "INTERP_REFINER_ROOT": str(place),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(NOTEBOOKS[0].parents[1]),
    }
    manager, client = start_new_kernel(kernel_name="python3", env=os.environ | chosen, cwd=str(NOTEBOOKS[0].parent))
    yield manager
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def widgets(notebook):
    """Every widget by what it is: what sliders show is kept there."""
    kept = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    return [(widget["model_name"], widget) for widget in kept.get("state", {}).values()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, kernel):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEFORE))
    NotebookClient(notebook, km=kernel, timeout=240).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output["output_type"] == "error"]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    kinds += ["image/gif" for output in outputs if "data:image/gif" in output.get("data", {}).get("text/html", "")]
    kinds += [f"image/{widget['state']['format']}" for name, widget in widgets(notebook) if name == "ImageModel"]
    assert "OutputModel" not in dict(widgets(notebook))  # with which `jupyter execute` may hang
    for kind, count in SHOWN[path.stem].items():
        assert kinds.count(kind) >= count, (kind, kinds)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_every_notebook_is_known():
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)


def test_a_picture_follows_its_controls_and_says_what_is_wrong():
    def show(level):
        if level == 3:
            raise BadValue("level", level, "1 | 2")
        return Animation(bytes([level])), f"level {level} < 3"

    level = IntSlider(value=1)
    picture, caption = steered(show, level=level).children[1:]
    assert (picture.value, picture.format, caption.value) == (b"\x01", "gif", "level 1 &lt; 3")
    level.value = 2
    assert (picture.value, caption.value) == (b"\x02", "level 2 &lt; 3")
    level.value = 3
    assert (picture.value, caption.value) == (b"\x02", "BadValue: level=3: expected 1 | 2")
    with pytest.raises(BadValue):
        steered(show, level=level)
