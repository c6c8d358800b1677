"""What every entry point shares: how a program is started, configured, refused and described.

An entry point is a function of the composed config:

    @main("train", TrainSettings)
    def train(cfg: DictConfig) -> None:
        print_config(cfg)
        corruption = build(cfg.corruption)
        ...

    if __name__ == "__main__":
        train()
"""

from interp_refiner.entry.call import call, compose
from interp_refiner.entry.check import Settings, check_config
from interp_refiner.entry.construct import build
from interp_refiner.entry.describe import print_config, run_metadata, save_config
from interp_refiner.entry.launch import CheckConfig, conf_dir, main
from interp_refiner.entry.memory import keep_freed_memory
from interp_refiner.entry.nothing_left import nothing_left
from interp_refiner.entry.option import option_name
from interp_refiner.entry.quiet import quiet_libraries
from interp_refiner.entry.refusal import Refused
from interp_refiner.entry.writable import writable

__all__ = [
    "CheckConfig",
    "Refused",
    "Settings",
    "build",
    "call",
    "check_config",
    "compose",
    "conf_dir",
    "keep_freed_memory",
    "main",
    "nothing_left",
    "option_name",
    "print_config",
    "quiet_libraries",
    "run_metadata",
    "save_config",
    "writable",
]
