"""Interpolators with weights: trained by a fit of their own, and frozen wherever a refiner uses them."""

from abc import abstractmethod
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interp_refiner.core import BadValue, Neighbours
from interp_refiner.interpolator.interpolator import Interpolation, Interpolator

PREFIX = "interpolator."  # of an interpolator's weights in the checkpoint of its fit
AVERAGED = "ema_state_dict"  # where such a checkpoint keeps the averaged weights, which its validation used
RUN_CHECKPOINT = "checkpoints/last.ckpt"


class Learned(Interpolator):
    """An interpolator that is trained.

    Loaded from a checkpoint it is frozen: no weight requires a gradient, and since a corruption is no module that a
    trainer would move, the weights follow the device of the batch by themselves.
    """

    frozen: bool = False

    @final
    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if self.frozen:
            follow(self, values.device)
        return self.rebuild(values, near)

    @abstractmethod
    def rebuild(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        """As :meth:`Interpolator.fill`."""

    def freeze(self, checkpoint: str | None) -> None:
        """Loads the weights of ``checkpoint`` for good; None leaves the module as it is, to be trained.

        Args:
            checkpoint: the run folder of a fit, a ``.ckpt`` of it (its averaged weights), or a ``.safetensors`` file.

        Raises:
            BadValue: no such file, or the weights of another interpolator.
        """
        if checkpoint is None:
            return
        weights = read_weights(checkpoint)
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).splitlines()[1:2]).strip()
            raise BadValue(
                "checkpoint", checkpoint, f"weights of {type(self).__name__} at this size: {reason}"
            ) from error
        self.requires_grad_(False).eval()
        self.frozen = True

    def train(self, mode: bool = True) -> "Learned":
        """As in torch, except that a frozen interpolator stays in evaluation mode."""
        return super().train(mode and not self.frozen)


@torch.inference_mode(False)  # weights moved under Lightning's inference mode could not be used outside it
def follow(module: nn.Module, device: torch.device) -> None:
    """Moves a module without gradients to ``device``, if it is not there."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.device != device for tensor in tensors):
        module.to(device)


def read_weights(checkpoint: str) -> dict[str, Tensor]:
    """The state dict of an interpolator from a run folder, a ``.ckpt`` or a ``.safetensors`` file, on the CPU."""
    path = Path(checkpoint).expanduser()
    file = path / RUN_CHECKPOINT if path.is_dir() else path
    if not file.is_file():
        raise BadValue("checkpoint", checkpoint, f"a run folder with {RUN_CHECKPOINT} in it, or a .safetensors file")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise BadValue("checkpoint", checkpoint, f"a whole .safetensors file: {error}") from error
    stored = torch.load(file, map_location="cpu", weights_only=True)
    weights = stored["state_dict"] | stored.get(AVERAGED, {})
    return {name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)}


def save_weights(interpolator: Interpolator, path: Path | str) -> None:
    """Writes the weights as a ``.safetensors`` file for ``interpolator.checkpoint=<path>``."""
    save_file({name: value.detach().cpu().contiguous() for name, value in interpolator.state_dict().items()}, path)


class Conv2d(nn.Conv2d):
    """A 3 x 3 convolution, edges replicated, in the precision of its input (a run in bfloat16 casts the weights)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(in_channels, out_channels, 3, stride, padding=1, padding_mode="replicate")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        assert self.bias is not None
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def zero(self) -> "Conv2d":
        """The same convolution with output 0, whatever comes in."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        return self
