"""LPIPS, FID and FVD with networks from local files; nothing is downloaded and there is no fallback."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Measure
from interp_refiner.evaluation.measures.clip_features import ClipFeatures
from interp_refiner.evaluation.measures.clip_table import FrameMetric
from interp_refiner.evaluation.measures.frechet import Frechet, distance_measure


def load_network(weights: str | Path | None, what: str) -> nn.Module:
    """A TorchScript network from a local file, in evaluation mode.

    TorchScript files contain code; load only files from a source that you trust.

    Raises:
        BadValue: no file, or not a TorchScript archive; the message says what is needed.
    """
    needed = f"the path of {what}, which is not part of this package and is never downloaded"
    if weights is None or not Path(weights).is_file():
        raise BadValue("weights", weights, needed)
    try:
        network = torch.jit.load(str(weights), map_location="cpu")
    except RuntimeError as error:
        raise BadValue("weights", weights, f"{needed}; it is not a TorchScript archive") from error
    return network.eval()


def eight_bit(frames: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """RGB in 0..1 as the numbers 0..255 that an 8-bit file would hold."""
    return (frames.float().clamp(0, 1) * 255).round()


class PretrainedFeatures(ClipFeatures, ABC):
    """Features of a published network.

    Args:
        weights: path of the TorchScript file named in ``file``.
    """

    file: ClassVar[str]

    def __init__(self, weights: str | Path | None):
        super().__init__()
        self.network = load_network(weights, self.file)

    @abstractmethod
    def extract(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "n d"]:
        """Features of clips in 0..255, n a multiple of b."""

    @torch.no_grad()
    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b n d"]:
        features = self.extract(eight_bit(clips)).float()
        if features.shape[1:] != (self.num_features,):
            raise BadValue("weights", tuple(features.shape[1:]), f"{self.num_features} features, as {self.file} gives")
        return features.view(len(clips), -1, self.num_features)


@final
class InceptionFeatures(PretrainedFeatures):
    """Features of FID: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017; one vector per frame.

    Frames, RGB in 0..1, are resized by the network itself.

    Raises:
        BadValue: no usable file at ``weights``.
    """

    file = "inception-2015-12-05.pt, the TorchScript Inception of NVlabs/stylegan2-ada-pytorch"
    num_features = 2048

    def extract(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "n d"]:
        return self.network(clips.transpose(1, 2).flatten(0, 1), return_features=True)


@final
class I3DFeatures(PretrainedFeatures):
    """Features of FVD: Unterthiner et al., FVD: A New Metric for Video Generation, 2019; one vector per clip.

    The protocol is that of StyleGAN-V (Skorokhodov et al., CVPR 2022): the logits before the softmax, clips of at least
    10 frames, resized by the network itself.

    Raises:
        BadValue: no usable file at ``weights``, or clips of fewer than 10 frames.
    """

    file = "i3d_torchscript.pt, the TorchScript I3D of universome/stylegan-v"
    num_features = 400

    def extract(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "n d"]:
        if clips.shape[2] < 10:
            raise BadValue("clips", f"{clips.shape[2]} frames", "at least 10 frames for I3D")
        return self.network(clips, rescale=True, resize=True, return_features=True)


@final
class LPIPS(FrameMetric):
    """LPIPS on VGG16: Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018.

    The network returns all features of an image as one vector, already weighted, so that the squared distance of two
    such vectors is LPIPS.

    Args:
        weights: path of the TorchScript file named in ``file``.

    Raises:
        BadValue: no usable file at ``weights``.
    """

    file = "vgg16.pt, the TorchScript VGG16 with LPIPS weights of NVlabs/stylegan2-ada-pytorch"
    measures = (Measure("lpips", "LPIPS", compared="ratio"),)

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        self.network = load_network(weights, self.file)

    @torch.no_grad()
    def forward(self, estimate: Float[Tensor, "b 3 t h w"], clean: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t"]:
        """Distance of every frame; RGB in 0..1."""
        x, y = (eight_bit(video).transpose(1, 2).flatten(0, 1) for video in (estimate, clean))
        f, g = (self.network(frames, resize_images=False, return_lpips=True) for frames in (x, y))
        return (f - g).square().sum(1).view(len(clean), -1)


@final
class FID(Frechet):
    """FID of all frames; raises :class:`BadValue` without the file that :class:`InceptionFeatures` names.

    Intervals come from the jackknife; ``2 (methods + 1) 2048^2`` numbers are kept for every level.
    """

    measures = (distance_measure("fid", "FID", "pixels"),)
    settings: ClassVar[dict[str, Any]] = {"standardise": False, "num_folds": 2}

    def __init__(self, weights: str | Path | None = None):
        super().__init__(InceptionFeatures(weights))


@final
class FVD(Frechet):
    """FVD of clips of 10 frames or more; raises :class:`BadValue` without the file that :class:`I3DFeatures` names."""

    measures = (distance_measure("fvd", "FVD", "pixels"),)
    settings: ClassVar[dict[str, Any]] = FID.settings

    def __init__(self, weights: str | Path | None = None):
        super().__init__(I3DFeatures(weights))
