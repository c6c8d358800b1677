"""Starts a program with Hydra, and reports every mistake of the user in one line with exit code 2.

The config is composed and checked first, by Hydra's public interface: for a run before it has a folder, for a sweep
before its first job. So any later error of ``hydra.main`` comes from the task.

Exit codes: 0 done, 1 a bug (with its stack trace), 2 refused or bad data, 3 stopped (the disk is full, gradients are
not finite, a process is lost), 74 the data's source does not answer, 75 preempted and resumable, 130 interrupted and
resumable. If jobs of a sweep fail, the others run, and the sweep ends with 4.
"""

import copy
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.check import Settings, check_added, check_config
from interp_refiner.config.command_line import CommandLine, assigned, jobs, parsed, text_settings
from interp_refiner.config.composition import composed, conf_dir
from interp_refiner.config.describe import folders_of_options
from interp_refiner.config.help import print_help
from interp_refiner.config.idle import idle_settings, refuse_idle
from interp_refiner.config.machine import check_machine, check_output
from interp_refiner.config.new_folder import NewFolder
from interp_refiner.config.nodes import without
from interp_refiner.config.refusal import MISTAKES, later_process, locate, reported, short_names
from interp_refiner.config.terminal import log_any_name, print_any_name
from interp_refiner.core import Stopped

PACKAGE = __name__.partition(".")[0]
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's switch: errors leave hydra.main as they are, and users keep stack traces
EXIT_SWEEP = 4
ENDS_A_SWEEP = (0, 75, 130)
# Mistakes that Hydra itself may report: in the arguments, or in files of the user's own config folder.
OBJECTIONS = (*MISTAKES, HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError)

OmegaConf.register_new_resolver("cwd", lambda: str(Path.cwd()), replace=True)


@dataclass(frozen=True)
class Program:
    """One entry point: its primary config, the dataclass of its top-level values, the folder of its config groups."""

    config_name: str
    settings: type[Settings]
    conf_dir: Path

    def compose(self, *overrides: str) -> DictConfig:
        """Its config under these overrides, with Hydra's own part; see :func:`composed`."""
        return composed(self.conf_dir, self.config_name, *overrides)

    def check(self, cfg: DictConfig, choices: Mapping[str, str | None]) -> None:
        """Refuses what cannot be run; see :func:`check_config` and :func:`check_machine`."""
        check_config(cfg, self.settings, choices)
        self.settings.check(cfg)
        check_machine(cfg)

    def check_before(self, config: DictConfig, output_dir: str) -> None:
        """Checks a config as Hydra composed it, before its run folder exists; ``${hydra:...}`` already resolves."""
        refuse_idle([self.check_job(config, output_dir)])

    def check_job(self, config: DictConfig, output_dir: str) -> dict[str, str]:
        """The same for a job of a sweep; returns its :func:`idle_settings`, which other jobs may need."""
        config = copy.deepcopy(config)
        with open_dict(config.hydra):
            config.hydra.runtime.output_dir = os.path.abspath(output_dir)
            if OmegaConf.is_missing(config.hydra.job, "num"):  # a job of a sweep gets its number later
                config.hydra.job.num, config.hydra.job.id = 0, "0"
        with hydra_config(config), short_names(config):
            check_added(config, self.settings)
            self.check(config, config.hydra.runtime.choices)
            check_output(config, output_dir)
            return idle_settings(config, self.settings)

    def check_line(self, line: CommandLine) -> NewFolder | None:
        """Composes and checks every config that a command line asks for; raises the first mistake.

        Returns:
            For a single run, what exists before its folder is made.
        """
        overrides, multirun = line.composable, line.options.multirun
        compose = functools.partial(composed, self.conf_dir, line.options.config_name or self.config_name)
        cfg = compose(*(text for text in overrides if not (multirun and parsed(text).is_sweep_override())))
        if line.has("help", "hydra_help", "cfg", "info"):  # nothing is run
            return None
        if not multirun and cfg.hydra.mode != RunMode.MULTIRUN:
            folder = OmegaConf.select(cfg, "hydra.run.dir", throw_on_resolution_failure=False)
            self.check_before(cfg, folder or "")  # names the value that the folder's name lacks
            return NewFolder(cfg.hydra.run.dir)
        of_hydra = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
        swept = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]
        grid = jobs([*swept, *(text for text in overrides if text not in of_hydra)])
        searches = cfg.hydra.runtime.choices["hydra/sweeper"] != "basic"  # then its jobs are not known yet
        configs = (compose(*of_hydra, *job) for job in (islice(grid, 1) if searches else grid))
        idle = [self.check_job(cfg, cfg.hydra.sweep.dir) for cfg in configs]
        if idle and not searches:
            refuse_idle(idle)
        return None


def main(config_name: str, settings: type[Settings] = Settings, conf: Path | None = None) -> Callable:
    """Decorates a function of the composed config, and makes a :class:`Program` of it, its attribute ``program``.

    Called without arguments, the decorated function reads the command line; called with a config, it is the function
    itself. ``conf`` is another folder of config groups than the project's own.
    """
    program = Program(config_name, settings, conf or conf_dir())

    def decorate(task: Callable[[DictConfig], Any]) -> Callable:
        @functools.wraps(task)
        def start(cfg: DictConfig | None = None) -> Any:
            if cfg is None:
                return _start(program, task)
            with short_names(cfg):
                return task(cfg)

        start.program = program  # type: ignore[attr-defined]
        return start

    return decorate


def _start(program: Program, task: Callable[[DictConfig], Any]) -> None:
    asked = os.environ.get(FULL_ERROR)
    job = Job(program, task, asked)
    print_any_name()
    run = hydra.main(config_path=str(program.conf_dir), config_name=program.config_name, version_base="1.3")(job)
    try:
        line = CommandLine.read(sys.argv[1:], text_settings(program.settings))
        # Lightning passes the config of a saved run to the processes that it starts.
        if not line.has("config_path", "experimental_rerun", "shell_completion"):
            job.new_folder = program.check_line(line)
        with patch.object(sys, "argv", [sys.argv[0], *line.arguments]), patch.dict(os.environ, {FULL_ERROR: "1"}):
            if line.options.help:
                folders = [*map(Path, filter(None, [line.options.config_dir])), program.conf_dir]
                print_help(run, program.compose(*line.composable), program.config_name, folders)
            else:
                run()
    except Stopped as error:
        raise reported(error) from None
    except Exception as error:
        if error is job.bug:
            raise error if asked == "1" else error.with_traceback(job.trace) from error.__cause__
        if not isinstance(error, OBJECTIONS):
            raise
        raise reported(error, keep_trace=asked == "1") from None


class Job:
    """A task as Hydra runs it: it checks the config, runs the task, and reports mistakes.

    Attributes:
        bug: the exception of the task, if it is not a mistake of the user.
        trace: its stack trace.
        new_folder: undoes the folder of a refused run or of a dry run (``dry_run``); None in a sweep.
    """

    new_folder: NewFolder | None = None

    def __init__(self, program: Program, task: Callable[[DictConfig], Any], asked: str | None):
        functools.update_wrapper(self, task)  # Hydra names the job after the function's module
        self.program, self.task, self.asked = program, task, asked
        self.bug: Exception | None = None
        self.trace: TracebackType | None = None

    def __call__(self, cfg: DictConfig) -> Any:
        """Runs the task. In a sweep, reports a failed job at once and lets the other jobs run.

        Hydra's launchers treat an Exception as the result of the job, but a SystemExit ends the sweep. So an exit code
        that has to end the whole program (Ctrl-C, preemption) is raised again as it is.
        """
        hydra_cfg = HydraConfig.get()
        log_any_name()
        try:
            return self.run(cfg, hydra_cfg)
        except (Exception, SystemExit) as error:
            code = error.code if isinstance(error, SystemExit) else 1
            if hydra_cfg.mode != RunMode.MULTIRUN or code in ENDS_A_SWEEP:
                raise
            if isinstance(error, Exception):
                traceback.print_exception(error.with_traceback(self.trace))
            sweep, number = hydra_cfg.sweep.dir, hydra_cfg.job.num
            said = f"sweep {sweep}: not all jobs finished, job {number} is the first that did not"
            raise Stopped(f"{said}; the same command runs the missing jobs", EXIT_SWEEP) from None

    def run(self, cfg: DictConfig, hydra_cfg: Any) -> Any:
        """Checks the config and runs the task, with Hydra's switch as the user has set it."""
        full_error = hydra_cfg.job.env_set.get(FULL_ERROR, self.asked)  # debug=default sets it
        with patch.dict(os.environ):
            os.environ.pop(FULL_ERROR, None)
            os.environ.update({FULL_ERROR: full_error} if full_error else {})
            try:
                with short_names(cfg):
                    self.program.check(cfg, hydra_cfg.runtime.choices)
                    result = self.task(cfg)
                if cfg.get("dry_run"):
                    self.undo_folder(hydra_cfg)
                return result
            except MISTAKES as error:
                self.undo_folder(hydra_cfg)
                raise reported(error, str(locate(error, cfg)), keep_trace=full_error == "1") from None
            except Stopped as error:
                raise reported(error) from None
            except Exception as error:
                self.bug, self.trace = error, error.__traceback__ and error.__traceback__.tb_next
                raise

    def undo_folder(self, hydra_cfg: Any) -> None:
        """Undoes what Hydra wrote into the run's folder; see :meth:`NewFolder.undo`."""
        if self.new_folder is not None and not later_process():
            self.new_folder.undo(hydra_cfg.runtime.output_dir, hydra_cfg.overrides.task)


def call(program: str, folder: Path, *overrides: str) -> Any:
    """Runs a program in this process like its command line: composes, checks, then calls.

    Args:
        program: its name, as in ``python -m interp_refiner.<name>``; ``prepare/<command>`` for those of prepare.
        folder: used as its run folder.
        overrides: in Hydra's grammar; :func:`assigned` writes a path in it.

    Returns:
        What the program returns; it raises the same as its command line.
    """
    entry_point, cfg = checked(program, folder, *overrides)
    folder.mkdir(parents=True, exist_ok=True)
    with hydra_config(cfg):
        return entry_point(without(cfg, "hydra"))


def checked(program: str, folder: Path, *overrides: str) -> tuple[Callable, DictConfig]:
    """A program and the config that :func:`call` calls it with, composed and checked; raises like its command line."""
    module, _, command = program.partition("/")
    entry_point = getattr(import_module(f"{PACKAGE}.{module}"), command or module)
    folders = CommandLine.read(folders_of_options(), []).composable  # the caller's
    cfg = entry_point.program.compose(*folders, *overrides, assigned("paths.output_dir", folder))
    entry_point.program.check_before(cfg, str(folder))
    return entry_point, cfg


@contextmanager
def hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Makes ``HydraConfig`` and ``${hydra:...}`` read from ``cfg`` inside a block."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
