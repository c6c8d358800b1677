"""Data: shards on disk, clips in memory, and the data module that corrupts them on the device."""

from interp_refiner.data.anchor_source import AnchorSource, ImperfectSource
from interp_refiner.data.anchors import Anchors, AnchorShards
from interp_refiner.data.batch_reader import BatchReader
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.loader import EvalLoader, TrainLoader
from interp_refiner.data.mirror import Mirror
from interp_refiner.data.module import EVALUATION_STREAM, ShardedDataModule
from interp_refiner.data.moving_shapes import MovingShapes
from interp_refiner.data.preparation.cut import Cut
from interp_refiner.data.preparation.encode import VideoEncoder
from interp_refiner.data.preparation.process import Process
from interp_refiner.data.preparation.quality import Quality
from interp_refiner.data.preparation.videos import find_videos, walked
from interp_refiner.data.shards import BadSample, DatasetMetadata, Sample, Unavailable, write_shards
from interp_refiner.data.source import Clips, ClipSource, Reading, Writer
from interp_refiner.data.stores import Stores, inside
from interp_refiner.data.text_dropout import TextDropout
from interp_refiner.data.verify import summary, verify
from interp_refiner.data.wan_synth import wan_synth_metadata, windows, write_clip_windows

__all__ = [
    "EVALUATION_STREAM",
    "AnchorShards",
    "AnchorSource",
    "Anchors",
    "BadSample",
    "BatchReader",
    "ClipSource",
    "Clips",
    "Cut",
    "DatasetMetadata",
    "EvalLoader",
    "ImperfectSource",
    "Mirror",
    "MovingShapes",
    "Process",
    "Quality",
    "Reading",
    "Sample",
    "ShardDataset",
    "ShardedDataModule",
    "Stores",
    "TextDropout",
    "TrainLoader",
    "Unavailable",
    "VideoEncoder",
    "Writer",
    "find_videos",
    "inside",
    "summary",
    "verify",
    "walked",
    "wan_synth_metadata",
    "windows",
    "write_clip_windows",
    "write_shards",
]
