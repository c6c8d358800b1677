"""Compares several runs on one page: ``python -m interp_refiner.report logs/train/multiruns/<date>_<time>``.

Pass folders of sweeps or runs. Unfinished runs appear with the figures they have so far. Without folders it writes the
table of the log book.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from interp_refiner.config import Settings, assigned, main, terminal
from interp_refiner.evaluation.comparison import Comparison, find_runs, read_runs, write_report
from interp_refiner.evaluation.comparison.page import headlines
from interp_refiner.training.record import LogBook


@dataclass
class ReportSettings(Settings):
    """Top-level values of ``conf/report.yaml``.

    Attributes:
        runs: folders of runs, of sweeps, or of many of either; none for the table of the log book.
        log_book: the folder of the log book's entries.
        output: the folder of the report.
        title: of the report; None: named after the folders.
        against: the key on the x axis of plots; None: ``corruption.sigma``, or another swept numeric key.
    """

    runs: list[str] | str = field(default_factory=list)
    log_book: str = ""
    output: str = ""
    title: str | None = None
    against: str | None = None

    @classmethod
    def idle(cls, cfg: DictConfig) -> dict[str, str]:
        return {} if cfg.runs else dict.fromkeys(("output", "title", "against"), "it is for a report of runs")


@main("report", ReportSettings)
def report(cfg: DictConfig) -> None:
    """Writes ``report.html``, a single file, and ``report.md`` with its pictures.

    Without runs it writes the table of the log book: ``README.md`` beside the entries, with those that have a decision.

    Raises:
        BadValue: neither runs nor a log book.
    """
    if not cfg.runs:
        print(LogBook.existing(cfg.log_book, dict(cfg.paths)).write_index())
        return
    folders = [Path(folder).expanduser() for folder in ([cfg.runs] if isinstance(cfg.runs, str) else cfg.runs)]
    comparison = Comparison(read_runs(find_runs(folders)), cfg.against)
    names = ", ".join(folder.resolve().name for folder in folders)
    title = cfg.title or f"{'Runs of' if len(comparison.runs) > 1 else 'Run'} {names}"
    written = write_report(comparison, Path(cfg.output).expanduser(), title)
    console = terminal()
    for headline in headlines(comparison):
        console.print(headline.sentence, soft_wrap=True, markup=False)
    for kind, path in written.items():
        console.print(f"{kind:<9} {path}", soft_wrap=True, markup=False)


def with_runs(arguments: Sequence[str]) -> list[str]:
    """The command line in Hydra's grammar, with all folders in ``runs``.

    Folders are the arguments that are neither overrides nor flags, and those that name an existing folder: its name may
    contain ``=`` and other signs.
    """
    folders = [item for item in arguments if not item.startswith("-") and ("=" not in item or Path(item).exists())]
    others = [item for item in arguments if item not in folders]
    return [assigned("runs", folders), *others] if folders else others


if __name__ == "__main__":
    sys.argv[1:] = with_runs(sys.argv[1:])
    report()
