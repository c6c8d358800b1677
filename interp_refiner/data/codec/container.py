"""Opens video files, and reads what their containers say about their length."""

from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

WHOLE_INDEX = ("mp4", "avi")  # formats whose index lists all frames; other formats list only some
GIF_TRAILER = b";"  # the last byte of every gif


def file_url(path: Path | str) -> str:
    """A path in the form that ffmpeg recognises as a path; it would read ``take:1.mp4`` as a protocol ``take``."""
    return str(Path(path).absolute())


def open_file(path: Path | str) -> InputContainer:
    """Opens a video file with ffmpeg; titles need not be UTF-8."""
    return av.open(file_url(path), metadata_errors="replace")


def cut_off(path: Path, container: InputContainer, stream: Any) -> str:
    """How much is left of a file that is visibly truncated; empty if neither its index nor its last byte says so."""
    entries = stream.index_entries
    if any(name in container.format.name for name in WHOLE_INDEX) and len(entries):
        size = path.stat().st_size
        if any(entry.pos + entry.size > size for entry in entries):
            return f"truncated: {_whole_frames(path)} of {len(entries)} frames are there"
    if container.format.name == "gif" and not _tail(path).endswith(GIF_TRAILER):
        return "truncated: its end is missing"
    return ""


def declared_seconds(path: Path, container: InputContainer, stream: Any, longest: float) -> float:
    """Seconds that the header of a Matroska, WebM or fragmented mp4 file declares for the stream; 0 if none.

    In Matroska the tag of the stream says it. Without one, the duration of the file counts if all streams end before
    it, by more than the ``longest`` time from frame to frame: the sound may be longer than the pictures.
    """
    if "mp4" in container.format.name and not stream.frames and stream.duration:  # fragmented
        return float(stream.duration * stream.time_base)
    if tagged := _seconds(stream.metadata.get("DURATION")):
        return tagged
    if "matroska" not in container.format.name or not container.duration:
        return 0.0
    duration = container.duration / av.time_base
    return duration if _end_of_packets(path) < duration - longest else 0.0


def _whole_frames(path: Path) -> int:
    """The number of frames that can be decoded before the first missing one."""
    count = 0
    with open_file(path) as container:
        try:
            for _ in container.decode(container.streams.best("video")):
                count += 1
        except av.error.InvalidDataError:
            pass
    return count


def _tail(path: Path, length: int = 4096) -> bytes:
    """The end of a file, without the zeros that some programs append."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - length))
        return file.read().rstrip(b"\0")


def _end_of_packets(path: Path) -> float:
    """Seconds at which the last packet of any stream ends; decodes nothing."""
    end = 0.0
    with open_file(path) as container:
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end


def _seconds(clock: str | None) -> float:
    """The seconds of a time such as ``00:01:02.5``; 0 if it is None or not a time."""
    try:
        hours, minutes, seconds = (clock or "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0
