"""What was run: the record in a run's folder."""

from interp_refiner.record.run_record import (
    STATUS_FILE,
    STATUSES,
    RunRecord,
    Status,
    read_record,
    twin_folder,
    write_record,
)

__all__ = ["STATUSES", "STATUS_FILE", "RunRecord", "Status", "read_record", "twin_folder", "write_record"]
