"""Wan-synth shards: what they declare, how they are indexed, read and written."""

from interp_refiner.data.shards.bad_sample import BadSample, Unavailable
from interp_refiner.data.shards.index import ShardIndex, build_index
from interp_refiner.data.shards.metadata import DATASET_FILE, DTYPES, DatasetMetadata
from interp_refiner.data.shards.range_cache import CachedFolder, RangeCache
from interp_refiner.data.shards.read import Member, TensorReader, all_finite, read_members
from interp_refiner.data.shards.remote import RemoteFolder
from interp_refiner.data.shards.storage import LocalFolder, ShardStat, Storage
from interp_refiner.data.shards.tensor_file import Unreadable
from interp_refiner.data.shards.underway import Underway
from interp_refiner.data.shards.write import Sample, write_shard, write_shards

__all__ = [
    "DATASET_FILE",
    "DTYPES",
    "BadSample",
    "CachedFolder",
    "DatasetMetadata",
    "LocalFolder",
    "Member",
    "RangeCache",
    "RemoteFolder",
    "Sample",
    "ShardIndex",
    "ShardStat",
    "Storage",
    "TensorReader",
    "Unavailable",
    "Underway",
    "Unreadable",
    "all_finite",
    "build_index",
    "read_members",
    "write_shard",
    "write_shards",
]
