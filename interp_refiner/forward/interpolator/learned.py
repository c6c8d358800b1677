"""Interpolators with weights: trained separately, and frozen in a refiner."""

from abc import abstractmethod
from typing import ClassVar, final

from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp_refiner.core import Freezable, Neighbours
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator


class Learned(Interpolator, Freezable):
    """An interpolator that is trained; loaded from a checkpoint it is frozen, see :class:`Freezable`.

    Attributes:
        penalised: the names of what :meth:`penalties` returns.
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
            clean: the clips, whose missing frames may be read here.
            known: the keyframes that ``filled`` was made from.
            filled: what :meth:`forward` returned for them.
        """
        return {}


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
