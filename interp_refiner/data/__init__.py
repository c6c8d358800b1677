"""Data: shards on disk, clips in memory, and the data module that corrupts them on the device."""

from interp_refiner.data.shards import DatasetMetadata, Sample, write_shards

__all__ = ["DatasetMetadata", "Sample", "write_shards"]
