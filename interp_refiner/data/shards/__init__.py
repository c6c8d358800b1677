"""Wan-synth shards: metadata, index, reading and writing."""

from interp_refiner.data.shards.bad_sample import BadSample, Unavailable
from interp_refiner.data.shards.finite import all_finite, finite_rows
from interp_refiner.data.shards.index import ShardIndex, build_index, unread
from interp_refiner.data.shards.metadata import BUCKETS_FILE, DATASET_FILE, DTYPES, DatasetMetadata
from interp_refiner.data.shards.range_cache import CachedFolder, RangeCache
from interp_refiner.data.shards.read import MemberReader, read_members
from interp_refiner.data.shards.remote import RemoteFolder
from interp_refiner.data.shards.storage import LocalFolder, ShardStat, Storage
from interp_refiner.data.shards.underway import Underway
from interp_refiner.data.shards.write import Sample, ShardWriter, write_shard, write_shards
from interp_refiner.data.shards.zip_file import Unreadable

__all__ = [
    "BUCKETS_FILE",
    "DATASET_FILE",
    "DTYPES",
    "BadSample",
    "CachedFolder",
    "DatasetMetadata",
    "LocalFolder",
    "MemberReader",
    "RangeCache",
    "RemoteFolder",
    "Sample",
    "ShardIndex",
    "ShardStat",
    "ShardWriter",
    "Storage",
    "Unavailable",
    "Underway",
    "Unreadable",
    "all_finite",
    "build_index",
    "finite_rows",
    "read_members",
    "unread",
    "write_shard",
    "write_shards",
]
