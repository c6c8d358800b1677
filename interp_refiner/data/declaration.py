"""Compares the metadata of shards with their tensors, and the metadata of two splits with each other."""

from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.dataset import ShardDataset, StoredTensor
from interp_refiner.data.shards import DTYPES, DatasetMetadata, Unreadable


def check_declaration(dataset: ShardDataset) -> None:
    """Refuses metadata that the stored tensors contradict; compares the first readable sample."""
    metadata = dataset.metadata
    where = f"what {dataset.storage.name} holds"
    kinds: dict[StoredTensor, str] = {"latent": "latent", "embed": "text", "context": "context"}
    for kind, name in kinds.items():
        shape, dtype = getattr(metadata, f"{name}_shape"), getattr(metadata, f"{name}_dtype")
        shape = metadata.stored_text_shape if kind == "embed" else shape
        if shape is None or (found := _first_readable(dataset, kind)) is None:
            continue
        if tuple(found.shape) != shape:
            raise BadValue(f"{name}_shape", list(shape), f"{where}, {list(found.shape)}")
        if found.dtype != DTYPES[dtype]:
            raise BadValue(f"{name}_dtype", dtype, f"{where}, {str(found.dtype).removeprefix('torch.')}")


def check_fingerprints(wanted: str | None, train: DatasetMetadata, val: DatasetMetadata) -> None:
    """Refuses splits that were made with other settings than ``wanted``, or with different settings."""
    found = {split: metadata.made_by.get("fingerprint") for split, metadata in (("train", train), ("val", val))}
    for split, other in found.items():
        if wanted is not None and other != wanted:
            raise BadValue("fingerprint", wanted, f"{other}, which the shards of {split} have, or null")
    if found["train"] != found["val"]:
        allowed = f"train and val made with the same settings, not {found['train']} and {found['val']}"
        raise BadValue("fingerprint", wanted, allowed)


def _first_readable(dataset: ShardDataset, kind: StoredTensor) -> Tensor | None:
    for sample in range(min(len(dataset), 8)):
        try:
            return dataset.stored(sample, kind)
        except (Unreadable, EOFError):
            continue  # bad samples are reported when they are read
    return None
