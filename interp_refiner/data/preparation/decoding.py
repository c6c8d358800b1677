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

AHEAD = 2  # clips of a video that wait to be taken


class Shown(NamedTuple):
    """A clip of a video, with what it looks like."""

    piece: Piece
    measures: Measures


class Done(NamedTuple):
    """The end of a video.

    Attributes:
        fault: why its clips are of no use; empty where they are.
        remarks: see :attr:`Film.remarks`.
    """

    fault: str
    remarks: list[str]


def decoded(cut: Cut, videos: Sequence[Video], threads: int) -> Generator[tuple[Video, Shown | Done]]:
    """The clips of every video in turn, then its end; ``threads`` videos are decoded at the same time.

    Memory holds a few clips a thread, however long the videos are. Close the iterator to stop early.
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
    """One video from the thread that decodes it to the one that takes its clips."""

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
