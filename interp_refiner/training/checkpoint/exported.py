"""Finds checkpoints by name: exported folders, and the weights in the package."""

from pathlib import Path

from interp_refiner.core import BadValue, fetch

INDEX = "model_index.json"  # in every exported folder
SHIPPED, SHIPPED_ONE_STEP = "shipped", "shipped_one_step"
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SHIPPED_FOLDER, SHIPPED_KEYFRAMES = WEIGHTS / "moving_shapes", WEIGHTS / "moving_shapes_keyframes"
REFINERS = {SHIPPED: SHIPPED_FOLDER, SHIPPED_ONE_STEP: WEIGHTS / "moving_shapes_one_step"}
PLACES = "a run folder with config.yaml, a checkpoint file inside one, an exported folder or one on the hub"
ALLOWED = f"{PLACES}, {SHIPPED_ONE_STEP} or {SHIPPED}"


def located(checkpoint: str | Path, name: str = "checkpoint") -> Path:
    """The path of a checkpoint: local, downloaded from the hub, or in the package.

    ``shipped`` and ``shipped_one_step`` name the weights in the package.

    Args:
        checkpoint: the path or name.
        name: name of the setting: ``keyframes`` for a keyframe generator, ``checkpoint`` for a refiner.

    Raises:
        BadValue: an unknown name, a package without these weights, or an error of :func:`fetch`.
    """
    named = {SHIPPED: SHIPPED_KEYFRAMES} if name == "keyframes" else REFINERS
    if (shipped := named.get(str(checkpoint))) is not None:
        if not is_exported(shipped):
            raise BadValue(name, checkpoint, f"a path, because this package comes without {shipped.name}")
        return shipped
    path = Path(checkpoint).expanduser()
    if not path.exists() and path.name == str(checkpoint):
        raise BadValue(name, checkpoint, ALLOWED, named)
    return fetch(name, checkpoint)


def is_exported(folder: Path) -> bool:
    """Whether the export wrote this folder."""
    return (folder / INDEX).is_file()
