"""Errors about samples; all have the same form: shard, key, reason."""

from interp_refiner.core import DataFault


class SampleFault(DataFault):
    """Names a shard, a key (empty if the whole shard is meant) and the reason."""

    def __init__(self, shard: str, key: str, reason: str):
        self.shard, self.key, self.reason = shard, key, reason
        super().__init__(f"{shard}: sample '{key}': {reason}" if key else f"{shard}: {reason}")


class BadSample(SampleFault, ValueError):
    """A sample cannot be used, and reading it again will not help."""


class Unavailable(SampleFault):
    """The source of a sample does not answer; the sample itself may be good, so it is never skipped."""

    exit_code = 74  # EX_IOERR
