"""The top-level settings of the commands of ``interp_refiner.prepare``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from omegaconf import DictConfig

from interp_refiner.config import Settings


@dataclass
class ClipSettings(Settings):
    """Top-level values of ``conf/prepare/clip.yaml``; see :func:`write_clip_windows`."""

    source: str = ""
    output: str = ""
    size: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    held_out_width: int = 16
    text_shape: list[int] = field(default_factory=list)
    normalised: bool = True


@dataclass
class ShapesSettings(Settings):
    """Top-level values of ``conf/prepare/shapes.yaml``."""

    output: str = ""


@dataclass
class AnchorSettings(Settings):
    """Top-level values of ``conf/prepare/anchors.yaml``.

    Attributes:
        checkpoint: checkpoint of the keyframe generator, if one makes the anchors.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    checkpoint: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @classmethod
    def idle(cls, cfg: DictConfig) -> Mapping[str, str]:
        of_generator = {} if cfg.checkpoint is not None else {"device": "it is for anchor_source=generator"}
        replaced = {} if cfg.get("anchor_source") is None else {"data.anchors.source": "anchor_source replaces it"}
        return of_generator | replaced


@dataclass
class EncodeSettings(Settings):
    """Top-level values of ``conf/prepare/encode.yaml``; see :class:`VideoEncoder` and :meth:`Process.here`."""

    source: str = ""
    captions: str | None = None
    output: str = ""
    videos_per_shard: int = 32
    threads: int = 4
    batch_size: int = 1
    rank: int | None = None
    world_size: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass
class EmbedSettings(Settings):
    """Top-level values of ``conf/prepare/embed.yaml``; see :func:`embed` and :meth:`Process.here`."""

    prompts: str | None = None
    negative: str = ""
    output: str = ""
    rank: int | None = None
    world_size: int | None = None


@dataclass
class VerifySettings(Settings):
    """Top-level values of ``conf/prepare/verify.yaml``."""

    root: str = ""
    splits: list[str] = field(default_factory=list)
    anchors: str | None = None
    metadata: dict | None = None
    threads: int = 4
