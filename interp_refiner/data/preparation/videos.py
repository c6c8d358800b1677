"""A folder of videos with captions."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from interp_refiner.core import BadValue, suggestion
from interp_refiner.data.codec import VIDEO_SUFFIXES
from interp_refiner.data.preparation.captions import BESIDE, captions_beside, read_captions


@dataclass(frozen=True)
class Video:
    """A video and everything known about it before decoding.

    Attributes:
        path: the file.
        key: prefix of its clips' keys.
        captions: may be empty.
        name: the path relative to the source.
        fault: why it must be left out, such as a caption that cannot be read; empty if nothing is wrong.
    """

    path: Path
    key: str
    captions: tuple[str, ...] = ()
    name: str = ""
    fault: str = ""

    @property
    def caption(self) -> str:
        """The first caption; empty if there is none."""
        return next(iter(self.captions), "")

    @property
    def size(self) -> int:
        """The file's size in bytes; 0 if it does not exist."""
        return self.path.stat().st_size if self.path.is_file() else 0


def find_videos(
    source: Path, captions: Path | None = None, suffixes: Sequence[str] = tuple(VIDEO_SUFFIXES)
) -> list[Video]:
    """The videos that :func:`walked` finds below a folder, sorted by name, with their captions.

    Args:
        source: the folder.
        captions: a table (:func:`read_captions`) with paths relative to ``source``; it takes precedence over the text
            files beside the videos (:func:`captions_beside`).
        suffixes: suffixes of video files, see :attr:`Cut.suffixes`.

    Raises:
        BadValue: no folder, no videos, two videos with one key, or no such table.
    """
    if not source.is_dir():
        raise BadValue("source", source, "a folder of videos: no such folder")
    paths, left_out = walked(source, suffixes)
    if not paths:
        found = "; ".join(f"{len(names)} left out, {reason}" for reason, names in left_out.items()) or "it is empty"
        raise BadValue("source", source, f"a folder of videos ({' '.join(suffixes)}): {found}")
    names = [path.relative_to(source).as_posix() for path in paths]
    said = read_captions(captions) if captions is not None else {}
    if unknown := sorted(set(said) - set(names)):
        near = suggestion(unknown[0], names)
        raise BadValue("captions", captions, f"files below {source} by their paths, not '{unknown[0]}'{near}")
    videos = [_video(path, name, said.get(name, ())) for path, name in zip(paths, names, strict=True)]
    of_key: dict[str, str] = {}
    for video in videos:
        if (other := of_key.setdefault(video.key, video.name)) != video.name:
            allowed = f"names that differ in letters or digits: '{other}' and '{video.name}' would both be {video.key}"
            raise BadValue("source", source, allowed)
    return videos


def walked(source: Path, suffixes: Sequence[str] = tuple(VIDEO_SUFFIXES)) -> tuple[list[Path], dict[str, list[str]]]:
    """The video files below a folder, sorted by name, and the names that were left out, by reason.

    Links to files and folders are followed, but nothing is read twice: if several paths lead to one file or folder, the
    one without a link is taken, else the first. Hidden files and folders are left out. Of names that differ only in
    case, one is kept, because other file systems treat them as equal.
    """
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    files = list(_files(source, left_out))
    captioned = {path.with_suffix("") for path in files if path.suffix.lower() in suffixes}
    same: set[tuple[int, int]] = set()
    names: set[str] = set()
    found = []
    for path in sorted(files, key=lambda path: (path.is_symlink(), path)):
        name = str(path.relative_to(source))
        if path.suffix.lower() not in suffixes:
            if path.suffix not in BESIDE:
                left_out[f"not a video ({path.suffix or 'no suffix'})"].append(name)
            elif path.with_suffix("") not in captioned:
                left_out["a caption without a video"].append(name)
            continue
        stat = path.stat() if path.exists() else path.lstat()  # a dangling link: the link's own
        if (identity := (stat.st_dev, stat.st_ino)) in same:
            left_out["the same file as another"].append(name)
        elif name.lower() in names:
            left_out["another name that differs only in case"].append(name)
        else:
            same.add(identity)
            names.add(name.lower())
            found.append(path)
    return sorted(found), dict(left_out)


def _files(source: Path, left_out: defaultdict[str, list[str]]) -> Iterator[Path]:
    """Every file below a folder that is not hidden. Each folder is visited once; real folders come before links."""
    seen: set[str] = set()
    waiting = [source]
    linked: list[Path] = []
    while waiting or linked:
        folder = waiting.pop(0) if waiting else linked.pop(0)
        name = str(folder.relative_to(source))
        if (real := os.path.realpath(folder)) in seen:
            left_out["the same folder as another"].append(name)
            continue
        seen.add(real)
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            left_out[f"a folder that cannot be read ({error.strerror})"].append(name)
            continue
        for path in entries:
            if path.name.startswith("."):
                left_out["hidden"].append(str(path.relative_to(source)))
            elif path.is_dir():
                (linked if path.is_symlink() else waiting).append(path)
            else:
                yield path


def _video(path: Path, name: str, said: tuple[str, ...]) -> Video:
    """A file with its caption. A dangling link or a caption that is not UTF-8 becomes the video's ``fault``."""
    key, captions, fault = re.sub(r"[^\w-]+", "-", name), said, ""
    try:
        captions = said or captions_beside(path)
    except ValueError as error:
        fault = str(error)
    if not path.is_file():
        fault = "no such file: a dangling link" if path.is_symlink() else "not a file"
    return Video(path, key, captions, name, fault)
