"""Shared by all programs: start, config, error messages and the description of a run.

A program is a function of the composed config:

    @main("train", TrainSettings)
    def train(cfg: DictConfig) -> None:
        print_config(cfg)
        corruption = build(cfg.corruption)
        ...

    if __name__ == "__main__":
        train()
"""

from interp_refiner.config.check import Settings, check_config
from interp_refiner.config.command_line import assigned
from interp_refiner.config.composition import conf_dir
from interp_refiner.config.construct import build
from interp_refiner.config.describe import (
    folders_of_options,
    given,
    next_command,
    option_name,
    print_config,
    run_metadata,
    save_config,
)
from interp_refiner.config.idle import settings_of
from interp_refiner.config.launch import Program, call, checked, main
from interp_refiner.config.machine import writable, writable_folder
from interp_refiner.config.refusal import MISTAKES, Refused
from interp_refiner.config.terminal import print_notes, quiet_libraries, terminal

__all__ = [
    "MISTAKES",
    "Program",
    "Refused",
    "Settings",
    "assigned",
    "build",
    "call",
    "check_config",
    "checked",
    "conf_dir",
    "folders_of_options",
    "given",
    "main",
    "next_command",
    "option_name",
    "print_config",
    "print_notes",
    "quiet_libraries",
    "run_metadata",
    "save_config",
    "settings_of",
    "terminal",
    "writable",
    "writable_folder",
]
