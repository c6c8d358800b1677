"""The network of ST-LPIPS, a perceptual distance that tolerates small shifts, with weights from a package."""

from importlib.util import find_spec
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.training.perceptual import ImageDistance

PACKAGE = "stlpips_pytorch"
CONVOLUTIONS = {1: (0, 64, 11, 2), 2: (5, 192, 5, 2), 3: (9, 384, 3, 1), 4: (11, 256, 3, 1), 5: (13, 256, 3, 1)}
"""By stage: the layer's number in the checkpoint, and channels, kernel size and padding of its convolution."""
MIN_SIDE = 21  # pixels; below, the last blur has fewer than the three positions that its reflection needs


@final
class ShiftTolerantLPIPS(ImageDistance):
    """Shift-tolerant LPIPS on AlexNet: Ghildyal and Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022.

    With ``f_k`` the features after stage k, normalised over channels at every position, and ``w_k`` learned weights of
    their channels,

        d(x, y) = sum_k mean_position sum_channel w_k (f_k(x) - f_k(y))^2

    It is not LPIPS: a blur precedes every subsampling, and the first convolution has stride 1. The numbers of the two
    are not comparable. The network is implemented here, because the package's own module needs torchvision; only the
    weights come from the package, without running its code. The weights are buffers, so they are never trained.

    Raises:
        MissingExtra: the package with the weights is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra("ST-LPIPS", PACKAGE, "metrics")
        path = Path(spec.submodule_search_locations[0]) / "weights/vST0.0/alex_shift_tolerant.pth"
        weights = torch.load(path, map_location="cpu", weights_only=True)
        for stage, (layer, *_) in CONVOLUTIONS.items():
            for part in ("weight", "bias"):
                self.register_buffer(f"{part}_{stage}", weights[f"net.slice{stage}.{layer}.{part}"], persistent=False)
            self.register_buffer(f"channel_{stage}", weights[f"lin{stage - 1}.model.1.weight"], persistent=False)
        for name in ("shift", "scale"):
            self.register_buffer(name, weights[f"scaling_layer.{name}"], persistent=False)

    def check_size(self, height: int, width: int) -> None:
        """Refuses images smaller than 21x21 pixels, with :class:`BadValue`."""
        if min(height, width) < MIN_SIDE:
            raise BadValue("video size", f"{height}x{width}", f"at least {MIN_SIDE}x{MIN_SIDE} pixels for ST-LPIPS")

    def forward(self, x: Float[Tensor, "n 3 h w"], y: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """See :class:`ImageDistance`; raises as :meth:`check_size`."""
        self.check_size(*x.shape[2:])
        distance = torch.zeros(len(x), device=x.device)
        for stage, (f, g) in enumerate(zip(self._features(x), self._features(y), strict=True), 1):
            difference = (
                f / (f.norm(dim=1, keepdim=True) + 1e-10) - g / (g.norm(dim=1, keepdim=True) + 1e-10)
            ).square()
            distance = distance + F.conv2d(difference, self.get_buffer(f"channel_{stage}")).mean((1, 2, 3))
        return distance

    def _features(self, image: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c y x"]]:
        x, features = (2 * image - 1 - self.get_buffer("shift")) / self.get_buffer("scale"), []
        for stage, (*_, padding) in CONVOLUTIONS.items():
            if stage in (2, 3):
                x = blur_and_halve(F.max_pool2d(x, 3, stride=1))
            x = F.conv2d(x, self.get_buffer(f"weight_{stage}"), self.get_buffer(f"bias_{stage}"), padding=padding)
            x = F.relu(blur_and_halve(x) if stage == 1 else x)
            features.append(x)
        return features


def blur_and_halve(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c y x"]:
    """Every second position of the binomial blur ``[1 2 1] x [1 2 1] / 16``, borders reflected by two positions."""
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
    # [1 2 1] / 4 is the mean of two means of neighbours
    return F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2, stride=1)[:, :, ::2, ::2]
