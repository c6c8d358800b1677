"""Checkpoints by name: folders that the export wrote, and the weights that come with the package."""

from pathlib import Path

from interp_refiner.core import BadValue, fetch

INDEX = "model_index.json"  # in every exported folder
SHIPPED = "shipped"
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SHIPPED_FOLDER, SHIPPED_KEYFRAMES = WEIGHTS / "moving_shapes", WEIGHTS / "moving_shapes_keyframes"
ALLOWED = (
    f"a run folder with config.yaml, a checkpoint file inside one, an exported folder or one on the hub, or {SHIPPED}"
)


def located(checkpoint: str | Path, name: str = "checkpoint") -> Path:
    """Where a checkpoint lies: ``shipped`` names the weights in the package, anything else is a path or on the hub.

    Args:
        checkpoint: the path or name.
        name: of the setting: ``keyframes`` is a generator of keyframes, ``checkpoint`` a refiner.

    Raises:
        BadValue: a plain word that is neither, a package without these weights, or as :func:`fetch`.
    """
    if str(checkpoint) == SHIPPED:
        shipped = SHIPPED_KEYFRAMES if name == "keyframes" else SHIPPED_FOLDER
        if not is_exported(shipped):
            raise BadValue(name, checkpoint, f"a path, because this package comes without {shipped.name}")
        return shipped
    path = Path(checkpoint).expanduser()
    if not path.exists() and path.name == str(checkpoint):
        raise BadValue(name, checkpoint, ALLOWED, [SHIPPED])
    return fetch(name, checkpoint)


def is_exported(folder: Path) -> bool:
    """Whether the export wrote this folder."""
    return (folder / INDEX).is_file()
