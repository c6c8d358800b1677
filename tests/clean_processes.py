"""Processes for tests that train or kill: forks of a server that has imported and composed all and computed nothing.

A fork of the test process itself would inherit the locks and thread pools of all earlier tests: it hangs or crashes.
"""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import cloudpickle

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.training.strategy.groups", "tests.training.checkpoint.composed"])


def start(target: Callable[..., None], *args: Any) -> Any:
    """Calls ``target(*args)``, closures or not, in a process of its own with this one's environment; returns it."""
    call = cloudpickle.dumps((target, args, dict(os.environ), os.getcwd()))
    process = SERVER.Process(target=_call, args=(call,))
    process.start()
    return process


def _call(call: bytes) -> None:
    target, args, environment, folder = cloudpickle.loads(call)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    target(*args)
