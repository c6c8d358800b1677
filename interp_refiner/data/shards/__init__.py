"""Wan-synth shards: what they declare, how they are indexed, read and written."""

from interp_refiner.data.shards.bad_sample import BadSample
from interp_refiner.data.shards.index import ShardIndex, build_index
from interp_refiner.data.shards.metadata import DATASET_FILE, DTYPES, DatasetMetadata
from interp_refiner.data.shards.read import TensorReader, all_finite
from interp_refiner.data.shards.storage import LocalFolder, ShardStat, Storage
from interp_refiner.data.shards.tensor_file import Unreadable
from interp_refiner.data.shards.write import Sample, write_shard, write_shards

__all__ = [
    "DATASET_FILE",
    "DTYPES",
    "BadSample",
    "DatasetMetadata",
    "LocalFolder",
    "Sample",
    "ShardIndex",
    "ShardStat",
    "Storage",
    "TensorReader",
    "Unreadable",
    "all_finite",
    "build_index",
    "write_shard",
    "write_shards",
]
