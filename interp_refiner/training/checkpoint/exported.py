"""Finds checkpoints by name: exported folders, and the weights in the package."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp_refiner.core import BadValue, ClipSpec, fetch, read_stored

INDEX = "model_index.json"  # in every exported folder
SHIPPED, SHIPPED_ONE_STEP, SHIPPED_CAMERA = "shipped", "shipped_one_step", "shipped_camera"
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SHIPPED_FOLDER, SHIPPED_KEYFRAMES = WEIGHTS / "moving_shapes", WEIGHTS / "moving_shapes_keyframes"
REFINERS = {
    SHIPPED: SHIPPED_FOLDER,
    SHIPPED_ONE_STEP: WEIGHTS / "moving_shapes_one_step",
    SHIPPED_CAMERA: WEIGHTS / "camera",
}
PLACES = "a run folder with config.yaml, a checkpoint file inside one, an exported folder or one on the hub"
ALLOWED = f"{PLACES}, {SHIPPED_ONE_STEP}, {SHIPPED_CAMERA} or {SHIPPED}"


def located(checkpoint: str | Path, name: str = "checkpoint") -> Path:
    """The path of a checkpoint: local, downloaded from the hub, or in the package.

    ``shipped``, ``shipped_one_step`` and ``shipped_camera`` name the weights in the package.

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
    """Whether ``interp_refiner.export`` wrote this folder."""
    return (folder / INDEX).is_file()


def read_index(folder: Path, name: str, parts: Sequence[str] = ()) -> dict[str, Any]:
    """The content of an exported folder's ``model_index.json``.

    Args:
        folder: an exported folder.
        name: of the setting that names the folder, for the error.
        parts: the names of the mappings that it must have.

    Raises:
        BadValue: a damaged file, or one without these mappings.
    """
    file = folder / INDEX
    index = read_stored(name, file, dict)
    for part in parts:
        if not isinstance(index.get(part), dict):
            allowed = f"an export of this version, with a mapping {part}; this one is older or damaged"
            raise BadValue(name, file, f"{allowed}: export the run again")
    return index


def stored_spec(folder: Path, name: str, index: dict[str, Any]) -> ClipSpec:
    """The ``spec`` of :func:`read_index`; raises :class:`BadValue`, naming the file, if a field is wrong or missing."""
    try:
        return ClipSpec.from_plain(index["spec"])
    except BadValue as error:
        raise BadValue(name, folder / INDEX, f"a whole spec of the clips: {error}") from error
