"""Checkpoints by name: folders that the export wrote, and the weights that come with the package."""

from pathlib import Path

from interp_refiner.core import BadValue

INDEX = "model_index.json"  # in every exported folder
SHIPPED = "shipped"
SHIPPED_FOLDER = Path(__file__).resolve().parents[2] / "weights" / "moving_shapes"
ALLOWED = f"a run folder with config.yaml, a checkpoint file inside one, an exported folder, or {SHIPPED}"


def located(checkpoint: str | Path) -> Path:
    """Where a checkpoint lies: ``shipped`` names the weights in the package, anything else is a path.

    Raises:
        BadValue: a plain word that is neither.
    """
    if str(checkpoint) == SHIPPED:
        return SHIPPED_FOLDER
    path = Path(checkpoint).expanduser()
    if not path.exists() and path.name == str(checkpoint):
        raise BadValue("checkpoint", checkpoint, ALLOWED, [SHIPPED])
    return path


def is_exported(folder: Path) -> bool:
    """Whether the export wrote this folder."""
    return (folder / INDEX).is_file()
