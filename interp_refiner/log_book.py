"""Writes the table of the log book: ``python -m interp_refiner.log_book``, or ``make log``."""

from dataclasses import dataclass

from omegaconf import DictConfig

from interp_refiner.config import Settings, main
from interp_refiner.core import BadValue
from interp_refiner.training.record import LogBook


@dataclass
class LogBookSettings(Settings):
    """Top-level values of ``conf/log_book.yaml``.

    Attributes:
        log_book: the folder of the entries.
    """

    log_book: str = ""


@main("log_book", LogBookSettings)
def log_book(cfg: DictConfig) -> None:
    """Writes ``README.md`` beside the entries, newest first.

    Raises:
        BadValue: no such folder.
    """
    book = LogBook.at(cfg.log_book, dict(cfg.paths))
    if book is None or not book.folder.is_dir():
        raise BadValue("log_book", cfg.log_book, "a folder with entries, which runs make when they end")
    print(book.write_index())


if __name__ == "__main__":
    log_book()
