"""Wan-synth shards: what they declare, how they are indexed, read and written."""

from interp_refiner.data.shards.metadata import DATASET_FILE, DTYPES, DatasetMetadata
from interp_refiner.data.shards.write import Sample, write_shards

__all__ = ["DATASET_FILE", "DTYPES", "DatasetMetadata", "Sample", "write_shards"]
