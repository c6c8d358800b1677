"""A folder of videos becomes a data set, and goes on where it was stopped."""

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.core import BadValue, derived_seed
from interp_refiner.data.codec import Codec, UnreadableVideo, still_gap
from interp_refiner.data.settings import difference, fingerprint, plain
from interp_refiner.data.shards import DatasetMetadata, Sample, write_shard
from interp_refiner.data.text import TextEncoder
from interp_refiner.data.videos import SPLITS, Cut, Footage, Pixels, Video, as_video, moments

log = logging.getLogger(__name__)

STATISTICS_VIDEOS = 64  # videos that mean and deviation are estimated from, where the codec has none of its own
SETTINGS_FILE = "encode.json"


@dataclass(frozen=True)
class Encoded:
    """What was written.

    Attributes:
        clips: of every split.
        skipped: why videos were left out, by their paths below the source.
        remarks: what was converted or ignored of the others, see :attr:`Film.remarks`.
        still_gap: see :func:`still_gap`.
    """

    clips: dict[str, int]
    skipped: dict[str, str]
    remarks: dict[str, list[str]]
    still_gap: dict[str, list[float]]


@final
class VideoEncoder:
    """Writes ``<output>/train`` and ``<output>/val`` as Wan-synth shards.

    Videos are dealt to chunks in the order of their names. A chunk becomes one shard a split and a record; both appear
    whole or not at all, in ``<output>.partial``, which is renamed to ``output`` at the end. So a run that was stopped
    goes on behind its last whole chunk. A video that cannot be read is named, counted and left out.

    Args:
        codec: makes the latents; one without statistics gets those of the training clips.
        text: makes the prompt embeddings.
        cut: how videos become clips.
        videos_per_shard: videos in a chunk.
        threads: videos decoded at the same time.
        device: where the codec works.

    Raises:
        BadValue: counts below 1, or clips that the codec cannot take.
    """

    def __init__(
        self,
        codec: Codec,
        text: TextEncoder,
        cut: Cut,
        videos_per_shard: int = 32,
        threads: int = 4,
        device: str = "cpu",
    ):
        for name, value in (("videos_per_shard", videos_per_shard), ("threads", threads)):
            if value < 1:
                raise BadValue(name, value, "at least 1")
        self.latent_shape = codec.latent_size(*cut.size)
        self.codec, self.text, self.cut = codec.to(device), text, cut
        self.videos_per_shard, self.threads, self.device = videos_per_shard, threads, device
        self.fps, self.num_captions = cut.fps, 1
        self.settings: dict[str, Any] = {"codec": codec.describe(), "text": text.describe(), "cut": plain(asdict(cut))}
        if codec.has_statistics:
            self.settings["statistics"] = [codec.latents_mean.tolist(), codec.latents_std.tolist()]

    @property
    def fingerprint(self) -> str:
        """Of the codec, the text encoder and the cut."""
        return fingerprint(self.settings)

    @torch.no_grad()
    def write(self, videos: Sequence[Video], output: Path) -> Encoded:
        """Encodes ``videos``; returns at once where ``output`` holds them already.

        Raises:
            BadValue: ``output`` holds something else, or one of the splits would be empty.
        """
        source = fingerprint({v.key: [*(v.captions or [""]), v.size] for v in videos})
        self.num_captions = max((len(v.captions) for v in videos), default=1) or 1
        if output.exists() and not output.is_dir():
            raise BadValue("output", output, "a new or empty folder: it is a file")
        if output.is_dir() and any(output.iterdir()):
            return _summary(self._continued(output, source))
        partial = output.with_name(f"{output.name}.partial")
        begun = (partial / SETTINGS_FILE).is_file()
        if not begun:
            self._check_splits(videos)
        state = self._continued(partial, source) if begun else self._begun(partial, source, videos)
        if begun and (before := state.get("videos_per_shard")) != self.videos_per_shard:
            allowed = f"{before}, with which {partial} was begun (or delete that folder)"
            raise BadValue("videos_per_shard", self.videos_per_shard, allowed)
        self.codec.set_statistics(*state["statistics"])
        size = self.videos_per_shard
        chunks = [videos[start : start + size] for start in range(0, len(videos), size)]
        with tqdm(total=len(videos), desc="videos", unit="video") as progress:
            for number, chunk in enumerate(chunks):
                if str(number) not in state["chunks"]:
                    state["chunks"][str(number)] = self._encode(partial, number, chunk, progress)
                    _save(partial, state)
                else:
                    progress.update(len(chunk))
        return self._finish(partial, output, state)

    def _check_splits(self, videos: Sequence[Video]) -> None:
        """Refuses shares of which the names of the videos tell already that a split stays empty."""
        held_out = sum(self.cut.is_held_out(video) for video in videos)
        if held_out == len(videos):
            self._refuse_empty(["train"])
        if held_out == 0 and self.cut.held_out_end == 0:
            self._refuse_empty(["val"])

    def _refuse_empty(self, splits: Sequence[str], folder: Path | None = None) -> None:
        allowed = f"shares that leave clips for train and val, {' and '.join(splits)} would be empty"
        allowed += f" (delete {folder} before another try)" if folder else ""
        raise BadValue("held_out_videos", self.cut.held_out_videos, allowed)

    def _begun(self, partial: Path, source: str, videos: Sequence[Video]) -> dict[str, Any]:
        """An empty folder, with the statistics that every clip is normalised by."""
        statistics = self._statistics(videos)
        self.codec.set_statistics(*statistics)
        state = {
            "fingerprint": self.fingerprint,
            "source": source,
            "settings": self.settings,
            "statistics": statistics,
            "still_gap": self._still_gap(videos),
            "videos_per_shard": self.videos_per_shard,
            "chunks": {},
        }
        for split in SPLITS:
            (partial / split).mkdir(parents=True, exist_ok=True)
        _save(partial, state)
        return state

    def _continued(self, folder: Path, source: str) -> dict[str, Any]:
        """What the folder says about itself; refuses one of other settings or other videos."""
        file = folder / SETTINGS_FILE
        if not file.is_file():
            raise BadValue("output", folder, "a new or empty folder: it holds files already")
        state = json.loads(file.read_text())
        for name, wanted in (("fingerprint", self.fingerprint), ("source", source)):
            if (found := state[name]) != wanted:
                other = difference(state["settings"], self.settings) if name == "fingerprint" else "other videos"
                what = f"an empty folder or clips of {name} {wanted}, it holds {name} {found} ({other})"
                raise BadValue("output", folder, what)
        return state

    def _statistics(self, videos: Sequence[Video]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of every channel: the codec's own, or of the training clips of some videos."""
        if self.codec.has_statistics:
            return self.codec.latents_mean.tolist(), self.codec.latents_std.tolist()
        total = torch.zeros(self.codec.latent_channels, 3, dtype=torch.float64)
        chosen = sorted(videos, key=lambda video: derived_seed("statistics", video.key))[:STATISTICS_VIDEOS]
        faults: dict[str, str] = {}
        with tqdm(total=len(chosen), desc="statistics", unit="video") as progress:
            for clip in self._clips(chosen, ["train"], faults, progress.update):
                total += moments(self.codec.transform(as_video(clip).to(self.device))).cpu()
        if not total[:, 0].all():
            raise _nothing_to_read(chosen, faults, "is not held out")
        mean = total[:, 1] / total[:, 0]
        return mean.tolist(), (total[:, 2] / total[:, 0] - mean.square()).clamp(min=1e-12).sqrt().tolist()

    def _still_gap(self, videos: Sequence[Video]) -> dict[str, list[float]]:
        """Distance of stills from the first clip's own latents, by mode of encoding and latent frame."""
        faults: dict[str, str] = {}
        if (clip := next(self._clips(videos, SPLITS, faults), None)) is None:
            raise _nothing_to_read(videos, faults, "is long enough")
        gap = still_gap(self.codec, as_video(clip).to(self.device))
        return {mode: [round(value, 4) for value in distance.tolist()] for mode, distance in gap.items()}

    def _clips(
        self,
        videos: Sequence[Video],
        splits: Sequence[str],
        faults: dict[str, str],
        done: Callable[[], Any] = lambda: None,
    ) -> Iterator[Pixels]:
        """The clips of some splits; notes the ``faults`` of videos, and calls ``done`` after each of them."""
        for video, read in self._read(videos):
            if isinstance(read, UnreadableVideo):
                faults[video.name] = str(read)
            else:
                for split in (s for s in splits if s in read.parts):
                    yield from (clip for _, clip in self.cut.clips(read.parts[split], split))
            done()

    def _encode(self, partial: Path, number: int, chunk: Sequence[Video], progress: "tqdm[Any]") -> dict[str, Any]:
        """Writes the shards of a chunk; returns its record."""
        samples: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        skipped: dict[str, str] = {}
        remarks: dict[str, list[str]] = {}
        for video, read in self._read(chunk):
            if isinstance(read, UnreadableVideo):
                skipped[video.name] = str(read)
                log.warning("skipped: %s: %s", video.name, read)
            else:
                if read.remarks:
                    remarks[video.name] = read.remarks
                    log.info("%s: %s", video.name, "; ".join(read.remarks))
                embedding = self._embedding(video)
                for split, frames in read.parts.items():
                    samples[split] += self._samples(video, split, frames, embedding)
            progress.update()
        for split, found in samples.items():
            if found:
                path = partial / split / f"shard-{number:05d}.tar"
                write_shard(path.with_suffix(".part"), found, self._metadata(None, None), set())
                os.replace(path.with_suffix(".part"), path)
        clips = {split: len(found) for split, found in samples.items()}
        return {"clips": clips, "skipped": skipped, "remarks": remarks}

    def _samples(self, video: Video, split: str, frames: Pixels, embedding: Tensor) -> Iterator[Sample]:
        for (t, h, w), clip in self.cut.clips(frames, split):
            latents = self.codec.encode(as_video(clip).to(self.device))[0].bfloat16().cpu()
            key = f"{video.key}-t{t:05d}-h{h:04d}-w{w:04d}"
            yield Sample(key, latents, embedding, "\n".join(video.captions))

    def _embedding(self, video: Video) -> Float[Tensor, "*m l d"]:
        """Of its captions; zeros beyond them where others have more."""
        embedded = self.text.encode(video.captions or [""]).float().cpu()
        if self.num_captions == 1:
            return embedded[0]
        return torch.cat([embedded, embedded.new_zeros(self.num_captions - len(embedded), *embedded.shape[1:])])

    def _read(self, videos: Sequence[Video]) -> Iterator[tuple[Video, Footage | UnreadableVideo]]:
        """Decoded videos in their order, ``threads`` of them being decoded ahead."""
        waiting, ahead = iter(videos), deque[tuple[Video, Future[Any]]]()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            while True:
                for video in islice(waiting, self.threads - len(ahead)):
                    ahead.append((video, pool.submit(self.cut.read, video)))
                if not ahead:
                    return
                video, future = ahead.popleft()
                fault = future.exception()
                if fault is not None and not isinstance(fault, UnreadableVideo):
                    raise fault
                yield video, fault or future.result()

    def _metadata(self, statistics: Sequence[list[float]] | None, made_by: dict[str, Any] | None) -> DatasetMetadata:
        mean, std = statistics or (None, None)
        return DatasetMetadata(
            latent_shape=self.latent_shape,
            text_shape=(self.text.length, self.text.dim),
            num_captions=self.num_captions,
            text=self.text.describe(),
            codec=self.codec.describe(),
            latents_mean=mean,
            latents_std=std,
            normalised=True,
            fps=self.fps,
            made_by=made_by or {},
        )

    def _finish(self, partial: Path, output: Path, state: dict[str, Any]) -> Encoded:
        encoded = _summary(state)
        if empty := [split for split, count in encoded.clips.items() if count == 0]:
            self._refuse_empty(empty, partial)
        made_by = {"generator": "encode", "fingerprint": self.fingerprint, "settings": self.settings}
        made_by |= {"skipped": encoded.skipped, "remarks": encoded.remarks, "still_gap": state["still_gap"]}
        metadata = self._metadata(state["statistics"], made_by)
        for split, count in encoded.clips.items():
            replace(metadata, num_samples=count).save(partial / split)
        if output.is_dir():
            output.rmdir()  # empty
        os.rename(partial, output)
        return encoded


def _nothing_to_read(videos: Sequence[Video], faults: dict[str, str], wanted: str) -> BadValue:
    first = next((f"; {name}: {reason}" for name, reason in faults.items()), "")
    return BadValue("source", f"{len(videos)} videos", f"at least one that can be read and {wanted}{first}")


def _summary(state: dict[str, Any]) -> Encoded:
    chunks = state["chunks"].values()
    skipped = {name: reason for chunk in chunks for name, reason in chunk["skipped"].items()}
    remarks = {name: found for chunk in chunks for name, found in chunk.get("remarks", {}).items()}
    clips = {split: sum(chunk["clips"][split] for chunk in chunks) for split in SPLITS}
    return Encoded(clips, skipped, remarks, state["still_gap"])


def _save(folder: Path, state: dict[str, Any]) -> None:
    file = folder / SETTINGS_FILE
    file.with_suffix(".part").write_text(json.dumps(state, indent=1) + "\n")
    os.replace(file.with_suffix(".part"), file)
