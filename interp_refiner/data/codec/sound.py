"""Copies the sound of one video to another."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from jaxtyping import Float32

from interp_refiner.core import BadValue
from interp_refiner.data.codec.frame import UnreadableVideo
from interp_refiner.data.codec.video_read import opened

RATE, CHANNELS, FRAME = 48_000, 2, 1024  # samples per second; channels; samples per AAC frame
LAYOUT = "stereo"


@dataclass(frozen=True)
class Sound:
    """Sound to copy from a file.

    Attributes:
        path: the source file.
        at: time in the new video where the sound begins, in seconds.
        start: time in the source file to copy from, in seconds after its first frame.
    """

    path: Path
    at: float = 0.0
    start: float = 0.0

    def samples(self, seconds: float) -> Float32[np.ndarray, "2 n"]:
        """Both channels for a video of this length; silence where the file has no sound.

        Raises:
            BadValue: the sound is damaged.
        """
        try:
            return self._decoded(seconds)
        except UnreadableVideo as error:
            raise BadValue("sound", self.path, f"a file whose sound can be decoded: {error}") from error

    def _decoded(self, seconds: float) -> Float32[np.ndarray, "2 n"]:
        made = np.zeros((CHANNELS, round(seconds * RATE)), np.float32)
        with opened(self.path) as film:
            first = float(next(iter(film.stamps()), 0)) + self.start - self.at  # time of the file at 0 s of the video
        with opened(self.path) as film:
            resampler, place = av.AudioResampler("fltp", LAYOUT, RATE), None
            for frame in cast(Iterator[av.AudioFrame], film.container.decode(film.container.streams.best("audio"))):
                if place is None:
                    place = round(((frame.time or 0.0) - first) * RATE)
                for part in resampler.resample(frame):
                    block = part.to_ndarray()[:, max(0, -place) : max(0, made.shape[1] - place)]
                    begin = max(0, place)
                    made[:, begin : begin + block.shape[1]] = block
                    place += part.samples
                if place >= made.shape[1]:
                    break
        return made

    def stream(self, container: OutputContainer) -> AudioStream:
        """Adds an audio stream to a container; call it before anything is written."""
        return container.add_stream("aac", rate=RATE, layout=LAYOUT)

    def packets(self, stream: AudioStream, seconds: float) -> Iterator[av.Packet]:
        """The encoded sound for a video of this length."""
        samples = self.samples(seconds)
        for start in range(0, samples.shape[1], FRAME):
            block = np.ascontiguousarray(samples[:, start : start + FRAME])
            frame = av.AudioFrame.from_ndarray(block, "fltp", LAYOUT)
            frame.sample_rate, frame.pts = RATE, start
            yield from stream.encode(frame)
        yield from stream.encode()


def has_sound(path: Path) -> bool:
    """Whether a video file has sound that can be copied."""
    with opened(path) as film:
        return film.container.streams.best("audio") is not None
