"""The metadata of a folder of shards: layout, shapes, codec, normalisation."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec, choice, parse_stored
from interp_refiner.core.spec import frame_rate, mapping, numbers, shape

DATASET_FILE = "dataset.json"
BUCKETS_FILE = "buckets.json"  # lists the folders of clip sizes beside it
LAYOUTS = {"cthw": 4, "ct": 2}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class DatasetMetadata:
    """The declaration beside the shards (``dataset.json``), or in the data config for shards without one.

    Attributes:
        latent_shape: shape of one stored sample, ``[C, T, H, W]`` for video, ``[C, T]`` for a path.
        layout: the names of the stored axes, ``"cthw"`` or ``"ct"``.
        latent_dtype: dtype of the stored latents.
        text_shape: ``[L, D]`` of the stored prompt embeddings; None if there are none.
        text_dtype: dtype of the stored prompt embeddings.
        num_captions: M, the largest number of captions per sample. If M > 1, a sample has embeddings ``[M, L, D]``
            (zeros beyond its own captions) and a prompt with one line per caption; one caption is drawn per epoch.
        context_shape: ``[K, *grid]`` of the maps stored with every sample, ``Clip.context``; None if there are none.
        context_dtype: dtype of the stored maps.
        text: the encoder of the prompt embeddings: its ``name`` and the rest of :meth:`TextEncoder.describe`.
        codec: the codec that made the latents: its ``name``, ``temporal_factor``, ``spatial_factor``,
            ``first_frame_alone`` and further constructor arguments.
        latents_mean, latents_std: per channel, of the codec's own output.
        normalised: whether ``(z - mean) / std`` is already applied to the stored latents. If not, both statistics are
            required, because readers return unit variance.
        fps: pixel frames per second.
        num_samples: number of samples in the shards beside it; None if unknown.
        made_by: how the set was made, in free form.
    """

    latent_shape: tuple[int, ...]
    layout: str = "cthw"
    latent_dtype: str = "bfloat16"
    text_shape: tuple[int, int] | None = None
    text_dtype: str = "bfloat16"
    num_captions: int = 1
    context_shape: tuple[int, ...] | None = None
    context_dtype: str = "float16"
    text: dict[str, Any] = field(default_factory=dict)
    codec: dict[str, Any] = field(default_factory=dict)
    latents_mean: list[float] | None = None
    latents_std: list[float] | None = None
    normalised: bool = True
    fps: float | None = None
    num_samples: int | None = None
    made_by: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "latent_shape", shape("latent_shape", self.latent_shape))
        choice("layout", self.layout, LAYOUTS)
        choice("latent_dtype", self.latent_dtype, DTYPES)
        choice("text_dtype", self.text_dtype, DTYPES)
        choice("context_dtype", self.context_dtype, DTYPES)
        if len(self.latent_shape) != LAYOUTS[self.layout]:
            raise BadValue("latent_shape", self.latent_shape, f"the {LAYOUTS[self.layout]} axes of {self.layout}")
        for name in ("text_shape", "context_shape"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, shape(name, value))
        if type(self.num_captions) is not int or self.num_captions < 1:
            raise BadValue("num_captions", self.num_captions, "a whole number, at least 1")
        if self.num_samples is not None and (type(self.num_samples) is not int or self.num_samples < 0):
            raise BadValue("num_samples", self.num_samples, "a whole number, at least 0, or null")
        frame_rate(self.fps)
        if not isinstance(self.normalised, bool):
            raise BadValue("normalised", self.normalised, "true or false")
        for name in ("latents_mean", "latents_std"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, numbers(name, values, self.num_channels))
            elif not self.normalised:
                raise BadValue(name, None, "one number per channel, because the latents are not normalised")
        for name in ("codec", "text", "made_by"):
            object.__setattr__(self, name, mapping(name, getattr(self, name)))

    @property
    def stored_text_shape(self) -> tuple[int, ...] | None:
        """The shape of the prompt embeddings in the shards."""
        several = (self.num_captions,) if self.num_captions > 1 else ()
        return (*several, *self.text_shape) if self.text_shape is not None else None

    @property
    def spec(self) -> ClipSpec:
        """Shapes and statistics of the clips, for other parts of the project."""
        return ClipSpec.from_plain({f.name: getattr(self, f.name) for f in fields(ClipSpec) if hasattr(self, f.name)})

    @property
    def num_channels(self) -> int:
        return self.latent_shape[0]

    @property
    def num_frames(self) -> int:
        return self.latent_shape[1]

    def normalise(
        self, stored: Float[Tensor, "c t *space"], out: Float[Tensor, "c t *space"] | None = None
    ) -> Float[Tensor, "c t *space"]:
        """``(z - mean) / std`` in float32 (into ``out``), or ``stored`` itself if it is normalised already."""
        if self.normalised:
            return stored
        column = (-1, *[1] * (stored.ndim - 1))
        mean, std = (torch.tensor(v).view(column) for v in (self.latents_mean, self.latents_std))
        return torch.sub(stored.float(), mean, out=out).div_(std)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "DatasetMetadata":
        """From a mapping with this class's fields; an unknown one raises :class:`BadValue`."""
        known = [f.name for f in fields(cls)]
        for name in values:
            choice("field", name, known)
        if "latent_shape" not in values:
            raise BadValue("latent_shape", None, "the shape of one stored sample, [C, T, H, W]")
        return cls(**values)

    @classmethod
    def load(cls, root: Path | str) -> "DatasetMetadata":
        """Reads ``<root>/dataset.json``; raises FileNotFoundError, or BadValue naming the file and the field."""
        path = Path(root) / DATASET_FILE
        return cls.from_json(path.read_bytes(), str(path))

    @classmethod
    def from_json(cls, content: bytes, where: str) -> "DatasetMetadata":
        """From the content of a ``dataset.json``; raises :class:`BadValue` naming the file and the field."""
        values = parse_stored("root", where, content, dict)
        try:
            return cls.from_mapping(values)
        except BadValue as error:
            raise BadValue("root", where, f"a complete description of shards: {error}") from error

    def save(self, root: Path | str) -> Path:
        """Writes ``<root>/dataset.json`` under a temporary name, then renames it."""
        path = Path(root) / DATASET_FILE
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with open(partial, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        return path
