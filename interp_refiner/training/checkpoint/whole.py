"""Finds the undamaged checkpoints in a folder."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from interp_refiner.core import BadValue
from interp_refiner.training.checkpoint.sharded import OLD, damage, is_sharded

log = logging.getLogger(__name__)

FOLDER = "checkpoints"  # in a run folder
LAST = "last.ckpt"  # a link to the newest checkpoint


def fault(path: Path) -> str | None:
    """The damage of a checkpoint; None if it is intact.

    A file (a zip archive, as ``torch.save`` writes it) is read completely and compared with the CRC-32 of every record.
    The same is done for every record of a sharded checkpoint.
    """
    try:
        if path.is_dir():
            return damage(path)
        with ZipFile(path) as archive:
            torn = archive.testzip()
    except (BadZipFile, EOFError, NotImplementedError) as error:
        return f"truncated, or no checkpoint: {error}"
    except OSError as error:
        return error.strerror or str(error)
    return f"{torn} does not match its checksum" if torn is not None else None


def candidates(folder: Path) -> Iterator[Path]:
    """The checkpoints of a folder: the target of ``last.ckpt`` first, then the others, newest step first.

    They include the renamed old version of a sharded checkpoint if the run was killed while replacing it.
    """
    last = (folder / LAST).resolve()
    if last.exists():
        yield last
    found = [*folder.glob("*.ckpt"), *folder.glob(f"*.ckpt{OLD}")]
    others = [path for path in found if path.resolve() != last and not path.is_symlink()]
    yield from sorted(others, key=lambda path: (_step(path), path.name), reverse=True)


def _step(path: Path) -> int:
    return int((re.findall(r"\d+", path.stem) or [-1])[0])


def last_whole(folder: Path) -> Path | None:
    """The newest undamaged checkpoint of a folder; logs the damaged ones. None if there is none."""
    for path in candidates(folder):
        reason = fault(path)
        if reason is None:
            return path
        log.warning("%s is damaged (%s), so the one before it is used", path, reason)
    return None


def resume_path(ckpt_path: str | None, run_folder: Path) -> Path | None:
    """The checkpoint to resume from.

    Args:
        ckpt_path: ``"last"``: the newest undamaged checkpoint in this run's own folder, if there is one. Another run's
            folder or its ``last.ckpt``: the newest undamaged checkpoint there. Any other path: that checkpoint. None:
            no checkpoint.
        run_folder: folder of this run.

    Raises:
        BadValue: no undamaged checkpoint there.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "last":
        found = last_whole(run_folder / FOLDER)
        log.info("%s", f"resuming from {found}" if found else f"no checkpoint in {run_folder / FOLDER}: a fresh start")
        return found
    path = Path(ckpt_path).expanduser()
    if path.is_dir() and not is_sharded(path):  # a run folder, or its folder of checkpoints
        path = path / FOLDER / LAST if (path / FOLDER).is_dir() else path / LAST
    found = last_whole(path.parent) if path.name == LAST else path
    reason = "no checkpoint there" if found is None else fault(found)
    if reason is not None:
        raise BadValue("ckpt_path", ckpt_path, f"last, a run folder, or a checkpoint file ({reason})")
    return found
