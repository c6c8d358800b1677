"""Records of runs: the record in a run's folder, claims against duplicates, and the log book."""

from interp_refiner.training.record.claim import Claimed, claim
from interp_refiner.training.record.log_book import LogBook
from interp_refiner.training.record.portable import portable_command, without_folders
from interp_refiner.training.record.run_record import (
    STATUS_FILE,
    RunRecord,
    Status,
    read_record,
    twin_folder,
    write_record,
)

__all__ = [
    "STATUS_FILE",
    "Claimed",
    "LogBook",
    "RunRecord",
    "Status",
    "claim",
    "portable_command",
    "read_record",
    "twin_folder",
    "without_folders",
    "write_record",
]
