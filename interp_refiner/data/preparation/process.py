"""The rank of this process among several, and the locks that keep two runs out of one folder."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from interp_refiner.core import BadValue, check_least

STARTERS = (  # variables of torchrun, srun and submitit's local launcher: rank, world size, rank on this machine
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID"),
)


@dataclass(frozen=True)
class Process:
    """One of the processes that share some work. They never wait for one another.

    Attributes:
        rank: 0 to ``world_size - 1``.
        world_size: number of processes.
        local_rank: rank among the processes of this machine; each of them has its own GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def __post_init__(self) -> None:
        check_least(self, world_size=1)
        if not 0 <= self.rank < self.world_size:
            raise BadValue("rank", self.rank, f"0 to {self.world_size - 1}, the processes of world_size")

    @classmethod
    def here(
        cls, rank: int | None = None, world_size: int | None = None, environment: Mapping[str, str] = os.environ
    ) -> "Process":
        """This process: by the settings if given, else by torchrun, srun or submitit, else the only one.

        Raises:
            BadValue: only one of the two settings is given, or ``rank`` is not below ``world_size``.
        """
        if (rank is None) != (world_size is None):
            name, missing = ("rank", "world_size") if world_size is None else ("world_size", "rank")
            raise BadValue(name, rank if world_size is None else world_size, f"{missing}=<number>, too")
        if rank is not None and world_size is not None:
            return cls(rank, world_size, rank)
        for names in STARTERS:
            if all(environment.get(name, "").isdecimal() for name in names[:2]):
                return cls(*(int(environment.get(name) or 0) for name in names))
        return cls()

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world_size}"

    def share(self, count: int) -> range:
        """The indices, out of ``count`` pieces of work, that this process does."""
        return range(self.rank, count, self.world_size)

    def take_gpu(self) -> None:
        """Makes this process's own GPU the default ``cuda`` device, if the machine has GPUs."""
        if torch.cuda.is_available():
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())

    @contextmanager
    def claims(self, folder: Path, shown: Path) -> Iterator[None]:
        """Claims a folder for this process of this run. The caller holds the folder's lock.

        A killed process releases its claim.

        Args:
            folder: holds one lock file per working process.
            shown: the folder's name in messages.

        Raises:
            BadValue: a process of this rank, or a run with another number of processes, works in the folder already.
        """
        own = folder / f".{self.rank}-of-{self.world_size}.lock"
        mates = {folder / f".{rank}-of-{self.world_size}.lock" for rank in range(self.world_size)} - {own}
        with ExitStack() as held:
            with ExitStack() as strangers:
                for file in sorted({own, *folder.glob(".*-of-*.lock")} - mates):
                    try:
                        (held if file == own else strangers).enter_context(FileLock(file, timeout=0))
                    except Timeout:
                        who = "process {} of {}".format(*file.name[1:-5].split("-of-"))
                        raise BadValue(
                            "output", shown, f"a folder that no other run writes to: {who} is writing to it"
                        ) from None
            yield
