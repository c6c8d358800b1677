"""Threads that read."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, final


@final
class DaemonPool:
    """A fixed number of threads that take tasks in order.

    Unlike the threads of a ThreadPoolExecutor they are daemons: a thread that hangs in a read does not keep the program
    from ending.
    """

    def __init__(self, threads: int, name: str):
        self._tasks: SimpleQueue[tuple[Future, Callable[..., Any], tuple] | None] = SimpleQueue()
        self.threads = [Thread(target=_work, args=[self._tasks], name=name, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()
        self._stop = weakref.finalize(self, _stop, self._tasks, threads)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """The future of ``function(*arguments)``; it can be cancelled until a thread starts it."""
        future: Future = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self, wait: bool = False) -> None:
        """Ends the threads after they have finished all submitted tasks."""
        self._stop()
        for thread in self.threads if wait else ():
            thread.join()


def _work(tasks: SimpleQueue) -> None:
    while (task := tasks.get()) is not None:
        future, function, arguments = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
        del task, future, function, arguments  # so that a waiting thread keeps no batch in memory


def _stop(tasks: SimpleQueue, threads: int) -> None:
    for _ in range(threads):
        tasks.put(None)
