"""Interpolators with weights: trained separately, and frozen in a refiner."""

from abc import abstractmethod
from typing import ClassVar, final

from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp_refiner.core import Freezable, Neighbours
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator


class Learned(Interpolator, Freezable):
    """An interpolator with trainable weights; frozen once they are loaded from a checkpoint, see :class:`Freezable`.

    Attributes:
        penalised: the names of the terms that :meth:`penalties` returns.
    """

    prefix: ClassVar[str] = "interpolator."
    penalised: tuple[str, ...] = ()

    @final
    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        self.follow(values.device)
        return self.rebuild(values, near)

    @abstractmethod
    def rebuild(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        """As :meth:`Interpolator.fill`."""

    def penalties(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"], filled: Interpolation
    ) -> dict[str, Tensor]:
        """Additional terms of the training loss, by name, such as the roughness of a flow.

        Args:
            clean: the clips; missing frames may be read here.
            known: the keyframes that ``filled`` was made from.
            filled: the result of :meth:`forward` for them.
        """
        return {}


class Conv2d(nn.Conv2d):
    """A 3 x 3 convolution with replicated edges, computed in the precision of its input, also with bfloat16 weights."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(in_channels, out_channels, 3, stride, padding=1, padding_mode="replicate")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        assert self.bias is not None
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def zero(self) -> "Conv2d":
        """Sets all weights to 0, so that the output is 0; returns the convolution."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        return self
