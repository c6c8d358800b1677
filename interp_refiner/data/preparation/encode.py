"""Encodes a folder of videos as a data set, with any number of processes; a stopped run can be continued."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.core import BadValue, at_least
from interp_refiner.data.codec import Codec
from interp_refiner.data.lock import locked
from interp_refiner.data.preparation.chunks import (
    Chunks,
    ChunkWriter,
    Encoded,
    Made,
    Record,
    dealt,
    trainable,
    training_videos,
)
from interp_refiner.data.preparation.cut import SPLITS, Cut, as_videos
from interp_refiner.data.preparation.decoding import Done, Shown, decoded
from interp_refiner.data.preparation.process import Process
from interp_refiner.data.preparation.quality import Quality
from interp_refiner.data.preparation.shot import Size
from interp_refiner.data.preparation.survey import Survey, interval
from interp_refiner.data.preparation.videos import Video
from interp_refiner.data.settings import difference, fingerprint, plain
from interp_refiner.data.shards import DatasetMetadata, Sample
from interp_refiner.data.text import TextEncoder

log = logging.getLogger(__name__)

FORMAT = 2  # version of an unfinished folder: how videos are assigned to chunks
Item = tuple[Video, Shown | Done]


@final
class VideoEncoder:
    """Writes ``<output>/train`` and ``<output>/val`` as Wan-synth shards.

    A hash of its key assigns a video to a chunk; its number assigns a chunk to a process. A chunk becomes one shard per
    split and a record (:mod:`~interp_refiner.data.preparation.chunks`). So the shards are the same, byte for byte, for
    any number of processes, and a stopped run continues after its last finished chunk, again with any number. The
    process that finishes last completes the data set. A video that cannot be read is named, counted and left out.

    Threads decode the videos clip by clip, clips are encoded in batches, and a separate thread writes them: memory does
    not grow with the length of the videos.

    Args:
        codec: makes the latents, on its own device. A codec without statistics gets those of the training clips.
        text: makes the prompt embeddings.
        cut: how videos become clips.
        quality: which clips are left out; None for none.
        videos_per_shard: videos in a chunk.
        threads: videos decoded at the same time.
        batch_size: clips encoded at the same time.

    Raises:
        BadValue: counts below 1, or clips that the codec cannot take.
    """

    def __init__(
        self,
        codec: Codec,
        text: TextEncoder,
        cut: Cut,
        quality: Quality | None = None,
        videos_per_shard: int = 32,
        threads: int = 4,
        batch_size: int = 1,
    ):
        at_least(1, videos_per_shard=videos_per_shard, threads=threads, batch_size=batch_size)
        self.latent_shapes = {size: codec.latent_size(*size) for size in cut.sizes}
        self.codec, self.text, self.cut, self.quality = codec, text, cut, quality or Quality()
        self.videos_per_shard, self.threads, self.batch_size = videos_per_shard, threads, batch_size
        self.num_captions = 1
        self.settings: dict[str, Any] = {
            "codec": codec.describe(),
            "text": text.describe(),
            "cut": plain(cut.describe()),
        }
        if chosen := {name: least for name, least in asdict(self.quality).items() if least is not None}:
            self.settings["quality"] = chosen
        if codec.has_statistics:
            self.settings["statistics"] = [codec.latents_mean.tolist(), codec.latents_std.tolist()]

    @property
    def fingerprint(self) -> str:
        """A hash of the settings: codec, text encoder, cut and quality thresholds."""
        return fingerprint(self.settings)

    @torch.no_grad()
    def write(self, videos: Sequence[Video], output: Path, process: Process | None = None) -> Encoded:
        """Encodes this process's share of ``videos``; returns at once if ``output`` holds them already.

        Raises:
            BadValue: ``output`` holds something else or cannot be replaced, another run writes to it, or a split
                would be empty.
        """
        output = output.resolve()  # a link is kept, and the folder that it names is written
        process, chunks = process or Process(), Chunks(output)
        source = fingerprint({v.key: [*(v.captions or [""]), v.size] for v in videos})
        self.num_captions = max((len(v.captions) for v in videos), default=1) or 1
        if output.exists() and not output.is_dir():
            raise BadValue("output", output, "a new or empty folder: it is a file")
        if output.is_mount() and not chunks.is_whole:
            raise BadValue("output", output, "a folder that can be renamed, such as one in it: it is a mount point")
        with ExitStack() as working:
            with locked(output):
                if not chunks.is_whole and not chunks.is_begun:
                    self._begin(chunks, source, videos)
                state = self._checked(chunks, source)
                if chunks.is_whole:
                    return Encoded.of(state)
                working.enter_context(process.claims(chunks.partial, output))
            self.codec.set_statistics(*state["statistics"])
            parts = dealt(videos, self.videos_per_shard)
            if len(parts) < process.world_size:
                log.warning("%d processes share %d chunks: lower videos_per_shard", process.world_size, len(parts))
            self._encode_all(chunks, {number: parts[number] for number in process.share(len(parts))})
            with locked(output):
                return self._finish(chunks, source, videos, len(parts))

    def _check_splits(self, videos: Sequence[Video]) -> None:
        """Refuses ``held_out_videos`` if the videos' keys alone show that a split would stay empty."""
        held_out = sum(self.cut.is_held_out(video) for video in videos)
        if held_out == len(videos):
            self._refuse_empty(["train"])
        if held_out == 0 and self.cut.held_out_end == 0:
            self._refuse_empty(["val"])

    def _refuse_empty(self, splits: Sequence[str], folder: Path | None = None, left_out: int = 0) -> None:
        allowed = f"a share that leaves clips for train and val; {' and '.join(splits)} would be empty"
        if splits == ["val"] and self.cut.held_out_end == 0:  # a small share of a few videos is none
            allowed += ", unless held_out_end, such as 0.2, holds out the end of every video"
        allowed += f"; {left_out} clips are left out" if left_out else ""
        allowed += f" (delete {folder} before another try)" if folder else ""
        raise BadValue("held_out_videos", self.cut.held_out_videos, allowed)

    def _begin(self, chunks: Chunks, source: str, videos: Sequence[Video]) -> None:
        """Begins the folder: computes the statistics that normalise every clip, and saves the settings."""
        self._check_splits(videos)
        survey = Survey(self.codec, self.cut)
        statistics = survey.statistics(videos)
        self.codec.set_statistics(*statistics)
        state = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "source": source,
            "settings": self.settings,
            "statistics": statistics,
            "still_gap": survey.still_gap(videos),
            "videos_per_shard": self.videos_per_shard,
            "chunks": {},
        }
        chunks.begin(state)

    def _checked(self, chunks: Chunks, source: str) -> dict[str, Any]:
        """The folder's saved state; refuses a folder of other settings or other videos."""
        state = chunks.state()
        folder = chunks.output if chunks.is_whole else chunks.partial
        for name, wanted in (("fingerprint", self.fingerprint), ("source", source)):
            if (found := state[name]) != wanted:
                made, which = "from other videos", f"{found}, not {wanted}"
                if name == "fingerprint":
                    made, which = "with other settings", f"{which}: {difference(state['settings'], self.settings)}"
                raise BadValue("output", folder, f"an empty folder: this one was made {made} ({which})")
        if not chunks.is_whole and state.get("format") != FORMAT:
            raise BadValue("output", folder, "a folder that this version began (delete this one)")
        if not chunks.is_whole and (before := state["videos_per_shard"]) != self.videos_per_shard:
            allowed = f"{before}, with which {folder} was begun (or delete that folder)"
            raise BadValue("videos_per_shard", self.videos_per_shard, allowed)
        return state

    @property
    def device(self) -> torch.device:
        """The codec's device."""
        return self.codec.latents_mean.device

    def _encode_all(self, chunks: Chunks, parts: dict[int, list[Video]]) -> None:
        """Encodes this process's unfinished chunks."""
        left = {number: videos for number, videos in parts.items() if not chunks.is_done(number)}
        whole, missing = (sum(map(len, some.values())) for some in (parts, left))
        with tqdm(total=whole, initial=whole - missing, desc="videos", unit="video", mininterval=interval()) as bar:
            for number, videos in left.items():
                chunks.save(number, self._encode(chunks.partial, number, videos, bar))

    def _encode(self, folder: Path, number: int, videos: Sequence[Video], bar: "tqdm[Any]") -> Record:
        """Writes the shards of a chunk; returns its record."""
        writer = ChunkWriter(folder, number, self._metadata(None, None))
        under_way: Future[None] | None = None
        with closing(decoded(self.cut, videos, self.threads)) as items, ThreadPoolExecutor(1, "write") as disk:
            for batch in _batches(items, self.batch_size):
                samples = list(self._encoded(batch))
                if under_way is not None:
                    under_way.result()
                under_way = disk.submit(writer.take, samples)
                for video, item in batch:
                    if isinstance(item, Done):
                        _tell(video, item, bar)
        if under_way is not None:
            under_way.result()
        return writer.close()

    def _encoded(self, batch: Sequence[Item]) -> Iterator[tuple[Video, Made | Done]]:
        """The items of a batch in order, with latents for the clips that pass the quality thresholds."""
        faults = {
            row: self.quality.fault(item.measures) for row, (_, item) in enumerate(batch) if isinstance(item, Shown)
        }
        good = {row: item.piece for row, (_, item) in enumerate(batch) if isinstance(item, Shown) and not faults[row]}
        latents: dict[int, Tensor] = {}
        for size in {piece.size for piece in good.values()}:
            rows = [row for row, piece in good.items() if piece.size == size]
            encoded = self.codec.encode(as_videos([good[row].pixels for row in rows], self.device)).bfloat16().cpu()
            latents |= dict(zip(rows, encoded, strict=True))
        for row, (video, item) in enumerate(batch):
            if isinstance(item, Done):
                yield video, item
                continue
            piece, sample = item.piece, None
            key = "{}-t{:05d}-h{:04d}-w{:04d}".format(video.key, *piece.corner)
            if row in latents:
                sample = Sample(key, latents[row], self._embedding(video), "\n".join(video.captions))
            yield video, Made(self.cut.folder(piece.split, piece.size), key, sample, item.measures, faults[row])

    def _embedding(self, video: Video) -> Float[Tensor, "*m l d"]:
        """The embeddings of its captions, padded with zeros to the largest number of captions."""
        if self._embedded is None or self._embedded[0] != video:
            embedded = self.text.encode(video.captions or [""]).float().cpu()
            padding = embedded.new_zeros(self.num_captions - len(embedded), *embedded.shape[1:])
            self._embedded = video, torch.cat([embedded, padding]) if self.num_captions > 1 else embedded[0]
        return self._embedded[1]

    _embedded: tuple[Video, Tensor] | None = None  # embeddings of the last video

    def _metadata(
        self, statistics: Sequence[list[float]] | None, made_by: dict[str, Any] | None
    ) -> dict[str, DatasetMetadata]:
        """The metadata of every folder of shards, by the folder's name."""
        mean, std = statistics or (None, None)

        def of(size: Size) -> DatasetMetadata:
            return DatasetMetadata(
                latent_shape=self.latent_shapes[size],
                text_shape=(self.text.length, self.text.dim),
                num_captions=self.num_captions,
                text=self.text.describe(),
                codec=self.codec.describe(),
                latents_mean=mean,
                latents_std=std,
                normalised=True,
                fps=self.cut.fps,
                made_by=made_by or {},
            )

        return {self.cut.folder(split, size): of(size) for split in SPLITS for size in self.cut.sizes}

    def _finish(self, chunks: Chunks, source: str, videos: Sequence[Video], num_chunks: int) -> Encoded:
        """Completes the data set if every chunk is done. The caller holds the lock."""
        state = self._checked(chunks, source)
        encoded = Encoded.of(state, num_chunks - len(state["chunks"]))
        if chunks.is_whole or encoded.missing:
            return encoded
        state = trainable(state)
        encoded = Encoded.of(state)
        for name, what in (("moved", "become training clips"), ("dropped", "are left out")):
            for size in (folder.partition("/")[2] for folder in state.get(name, ())):
                log.warning("held-out clips of %s %s: no training clip has this size (cut.held_out_videos)", size, what)
        if empty := [split for split, count in encoded.clips.items() if count == 0]:
            self._refuse_empty(empty, chunks.partial, sum(encoded.left_out.values()))
        made_by = {"generator": "encode", "fingerprint": self.fingerprint, "settings": self.settings}
        made_by |= {"left_out": encoded.left_out} if encoded.left_out else {}
        made_by |= {"skipped": encoded.skipped, "remarks": encoded.remarks, "still_gap": encoded.still_gap}
        trained = training_videos(state)
        text = self.text.describe_trained(caption for v in videos if v.key in trained for caption in v.captions)
        metadata = self._metadata(state["statistics"], made_by)
        chunks.finish({folder: replace(of, text=text) for folder, of in metadata.items()})
        return encoded


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """Lists of consecutive items with up to ``size`` clips each."""
    batch: list[Item] = []
    clips = 0
    for item in items:
        batch.append(item)
        clips += isinstance(item[1], Shown)
        if clips == size:
            yield batch
            batch, clips = [], 0
    if batch:
        yield batch


def _tell(video: Video, done: Done, bar: "tqdm[Any]") -> None:
    if done.fault:
        log.warning("skipped: %s: %s", video.name, done.fault)
    elif done.remarks:
        log.info("%s: %s", video.name, "; ".join(done.remarks))
    bar.update()
    if rate := bar.format_dict["rate"] or (bar.n - bar.initial) / max(bar.format_dict["elapsed"], 1e-9):
        bar.set_postfix_str(f"{3600 * rate:.0f} videos per hour", refresh=False)
