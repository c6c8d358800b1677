"""Starting a program: Hydra as its users know it, and one line with exit code 2 for every mistake of theirs.

Exit codes: 0 done, 1 a bug (with its stack trace), 2 refused or bad data, 3 stopped (the disk is full, gradients are
not finite, a process is lost), 74 the data's source does not answer, 75 preempted and resumable, 130 interrupted and
resumable. A sweep in which jobs have failed does the others and ends with 4.
"""

import copy
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.check import Settings, check_config
from interp_refiner.config.composition import explain
from interp_refiner.config.refusal import MISTAKES, locate, refuse, stopped
from interp_refiner.core import Stopped

_FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's switch: errors leave hydra.main as they are, and users keep stack traces
_BEFORE_THE_TASK = (*MISTAKES, HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError)

EXIT_SWEEP = 4
_ENDS_A_SWEEP = (0, 75, 130)

OmegaConf.register_new_resolver("cwd", lambda: str(Path.cwd()), replace=True)


@dataclass(frozen=True)
class Program:
    """One entry point.

    Attributes:
        config_name: its primary config.
        settings: the dataclass of its top-level values.
        conf_dir: the folder of its config groups.
        full_error: the user's own ``HYDRA_FULL_ERROR``.
    """

    config_name: str
    settings: type[Settings]
    conf_dir: Path
    full_error: str | None = None

    def keeps_trace(self, hydra_cfg: Any) -> str | None:
        """``"1"`` where the user or the config (``debug=default``) asked for stack traces."""
        return hydra_cfg.job.env_set.get(_FULL_ERROR, self.full_error)

    def check(self, cfg: DictConfig, choices: Mapping[str, str | None]) -> None:
        """Refuses what cannot be run; see :func:`check_config`."""
        check_config(cfg, self.settings, choices)
        self.settings.check(cfg)

    def check_before(self, config: DictConfig, output_dir: str) -> None:
        """Checks a config as Hydra composed it, before its run folder exists; ``${hydra:...}`` already resolves."""
        config, before = copy.deepcopy(config), HydraConfig.instance().cfg
        with open_dict(config.hydra):
            config.hydra.runtime.output_dir = os.path.abspath(output_dir)
            if OmegaConf.is_missing(config.hydra.job, "num"):  # a job of a sweep gets its number later
                config.hydra.job.num, config.hydra.job.id = 0, "0"
        HydraConfig.instance().set_config(config)
        try:
            self.check(config, config.hydra.runtime.choices)
        finally:
            HydraConfig.instance().cfg = before


class JobFailed(Exception):
    """A job of a sweep did not finish.

    Args:
        number: of the job.
        sweep: the folder of the sweep.
    """

    def __init__(self, number: str, sweep: str):
        super().__init__(number, sweep)  # so that it can be pickled
        self.number, self.sweep = number, sweep

    def __str__(self) -> str:
        return f"sweep {self.sweep}: not all jobs finished, job {self.number} is the first that did not; {_AGAIN}"


_AGAIN = "the same command runs what is missing"
_program: ContextVar[Program] = ContextVar("program")


class CheckConfig(Callback):
    """Hydra callback: a run is refused before it has a folder, a sweep before its first job, whichever job is wrong."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        program = _program.get()
        try:
            program.check_before(config, config.hydra.run.dir)
        except MISTAKES as error:  # Hydra turns what callbacks raise into warnings, but lets an exit pass
            raise refuse(error, keep_trace=program.keeps_trace(config.hydra) == "1") from None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        program, loader = _program.get(), GlobalHydra.instance().config_loader()
        compose = loader.load_sweep_config

        def compose_and_check(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
            job = compose(master_config, sweep_overrides)
            program.check_before(job, job.hydra.sweep.dir)
            return job

        loader.load_sweep_config = compose_and_check  # type: ignore[method-assign]


def conf_dir() -> Path:
    """The config groups: inside the package where a wheel was installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "conf", package.parent / "conf") if path.is_dir()), package / "conf")


def main(config_name: str, settings: type[Settings] = Settings, conf: Path | None = None) -> Callable:
    """Makes a function of the composed config the entry point of a program.

    Args:
        config_name: the primary config, a file in the conf folder.
        settings: the dataclass of the config's top-level values.
        conf: another folder of config groups than the project's own.

    Returns:
        A decorator. The decorated function called without arguments reads the command line; called with a config it is
        the function itself. Its ``program`` tells what it was made from.
    """
    program = Program(config_name, settings, conf or conf_dir())

    def decorate(task: Callable[[DictConfig], Any]) -> Callable:
        @functools.wraps(task)
        def start(cfg: DictConfig | None = None) -> Any:
            if cfg is not None:
                return task(cfg)
            _start(replace(program, full_error=os.environ.get(_FULL_ERROR)), task)

        start.program = program  # type: ignore[attr-defined]
        return start

    return decorate


def _start(program: Program, task: Callable[[DictConfig], Any]) -> None:
    @functools.wraps(task)  # Hydra names the job after the function's module
    def job(cfg: DictConfig) -> Any:
        return _run_task(program, task, cfg)

    run = hydra.main(config_path=str(program.conf_dir), config_name=program.config_name, version_base="1.3")(job)
    token = _program.set(program)
    try:
        with _environment(_FULL_ERROR, "1"):
            run()
    except JobFailed as failed:
        print(failed, file=sys.stderr, flush=True)
        raise SystemExit(EXIT_SWEEP) from None
    except Exception as error:
        if _came_out_of_a_task(error):
            short = error if program.full_error == "1" else error.with_traceback(_below(_run_task, error.__traceback__))
            raise short from error.__cause__
        if not isinstance(error, _BEFORE_THE_TASK):
            raise
        overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        line = explain(error, overrides, program.conf_dir, program.config_name)
        raise refuse(error, line, keep_trace=program.full_error == "1") from None
    finally:
        _program.reset(token)


def _run_task(program: Program, task: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
    """One job: checked, run, its mistakes told."""
    hydra_cfg = HydraConfig.get()
    full_error = program.keeps_trace(hydra_cfg)
    with _environment(_FULL_ERROR, full_error), _rest_of_sweep_runs(hydra_cfg):
        try:
            program.check(cfg, hydra_cfg.runtime.choices)
            return task(cfg)
        except MISTAKES as error:
            raise refuse(error, str(locate(error, cfg)), keep_trace=full_error == "1") from None
        except Stopped as error:
            raise stopped(error) from None


@contextmanager
def _rest_of_sweep_runs(hydra_cfg: Any) -> Iterator[None]:
    """In a sweep, what one job comes to grief on is told at once, and in a form that Hydra's launchers pass by.

    They take any Exception as the result of the job, but end at a SystemExit. So does this where somebody wants the
    whole program to end: after Ctrl-C and at preemption.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if hydra_cfg.mode != RunMode.MULTIRUN or code in _ENDS_A_SWEEP:
            raise
        if isinstance(error, Exception):
            traceback.print_exception(error.with_traceback(_below(_run_task, error.__traceback__)))
        raise JobFailed(str(hydra_cfg.job.num), str(hydra_cfg.sweep.dir)) from None


def _came_out_of_a_task(error: Exception) -> bool:
    """Hydra keeps what a task raises and raises it again where the job's return value is read."""
    reading = JobReturn.return_value.fget.__code__  # type: ignore[attr-defined]
    return any(frame.f_code is reading for frame, _ in traceback.walk_tb(error.__traceback__))


def _below(function: Callable, trace: TracebackType | None) -> TracebackType | None:
    """The part of a stack trace that lies in what ``function`` called; all of it where ``function`` is not in it."""
    below = trace
    while below is not None and below.tb_frame.f_code is not function.__code__:
        below = below.tb_next
    return below.tb_next if below is not None else trace


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """The environment with one variable set, or unset where ``value`` is None."""
    before = os.environ.get(name)
    _set(name, value)
    try:
        yield
    finally:
        _set(name, before)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
