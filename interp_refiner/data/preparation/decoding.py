"""Decodes videos in threads, a few clips ahead of their consumer."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from threading import Semaphore
from typing import NamedTuple

from interp_refiner.data.codec import UnreadableVideo
from interp_refiner.data.preparation.cut import Cut
from interp_refiner.data.preparation.quality import Measures, measured
from interp_refiner.data.preparation.shot import Piece
from interp_refiner.data.preparation.videos import Video

AHEAD = 1  # decoded clips per video that may wait for the consumer


class Shown(NamedTuple):
    """A clip of a video with its quality measures."""

    piece: Piece
    measures: Measures


class Done(NamedTuple):
    """The end of a video.

    Attributes:
        fault: why its clips must be discarded; empty if they are good.
        remarks: see :attr:`Film.remarks`.
    """

    fault: str
    remarks: list[str]


def decoded(cut: Cut, videos: Sequence[Video], threads: int) -> Generator[tuple[Video, Shown | Done]]:
    """Yields the clips of one video after the other, each followed by :class:`Done`; decodes ``threads`` at a time.

    Memory holds a few clips per thread, however long the videos are. Close the iterator to stop early.
    """
    waiting, ahead = iter(videos), deque[_Stream]()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            while True:
                for video in islice(waiting, threads - len(ahead)):
                    ahead.append(_Stream(cut, video))
                    pool.submit(ahead[-1].decode)
                if not ahead:
                    return
                yield from ((ahead[0].video, item) for item in ahead[0].items())
                ahead.popleft()
        finally:
            for stream in ahead:
                stream.stop()


class _Stream:
    """Passes the clips of one video from the decoding thread to the consumer."""

    def __init__(self, cut: Cut, video: Video):
        self.cut, self.video, self.stopped = cut, video, False
        self.room = Semaphore(AHEAD)
        self.queue = SimpleQueue[Shown | Done | BaseException]()

    def decode(self) -> None:
        remarks: list[str] = []
        fault = ""
        try:
            for piece in self.cut.read(self.video, remarks):
                shown = Shown(piece, measured(piece.pixels))
                self.room.acquire()
                if self.stopped:
                    return
                self.queue.put(shown)
        except UnreadableVideo as error:
            fault = str(error)
        except BaseException as error:
            self.queue.put(error)
        self.queue.put(Done(fault, remarks))

    def items(self) -> Iterator[Shown | Done]:
        while True:
            item = self.queue.get()
            if isinstance(item, BaseException):
                raise item
            self.room.release()
            yield item
            if isinstance(item, Done):
                return

    def stop(self) -> None:
        self.stopped = True
        self.room.release()
