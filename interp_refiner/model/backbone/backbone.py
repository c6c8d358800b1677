"""The interface of backbones: networks that map a corrupted clip to the output that the objective interprets."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Corrupted
from interp_refiner.model.attention import Flops
from interp_refiner.model.backbone.lora_file import Adapter
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.spread import Spread


@dataclass(frozen=True)
class Interface:
    """The properties of a backbone that data, interpolator and objective determine.

    Attributes:
        spec: of the clips: their channels, and the width of their prompt embeddings.
        num_hypotheses: number of the interpolator's hypotheses, which are part of the keyframe channels. 0: there is no
            interpolation, and the state is the only input.
        outputs: number of output channels that the objective needs; None for the clips' channels.
    """

    spec: ClipSpec
    num_hypotheses: int = 1
    outputs: int | None = None

    @property
    def out_channels(self) -> int:
        """The number of output channels."""
        return self.outputs or self.spec.channels


class Backbone(nn.Module, ABC):
    """A network that maps a corrupted clip to one output per latent value, plus further outputs for the objective.

    Input and output are ``[b, c, t, *space]``; tokens exist only inside.

    Attributes:
        adapters: the adapters that :meth:`merge_adapters` has merged, by layer.
        compiled: whether its blocks are compiled.
    """

    adapters: Mapping[str, Adapter] = {}
    compiled: bool = False

    @property
    def divisor(self) -> tuple[int, int]:
        """Divisors of the numbers of latent rows and columns."""
        return 1, 1

    @abstractmethod
    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t *space"]:
        """The network's output; the objective defines its meaning. ``seen.clean`` is never read.

        For a corrupted clip, :class:`Conditioning` makes the inputs. A keyframe generator passes them as ``Shown``.

        The output is float32 for any precision of weights and autocast: clean estimates, losses and samples are
        computed from it, and half precision would round them.
        """

    @property
    def ignores_text(self) -> bool:
        """Whether a prompt certainly changes nothing, for example because no training clip had one."""
        return False

    @property
    def transformer(self) -> tuple[str, nn.Module] | None:
        """(attribute name, model) of the diffusers model inside, which an export saves with its own class; or None."""
        return None

    @property
    def units(self) -> Sequence[nn.Module]:
        """The blocks, in order of execution, that a strategy shards one by one; empty: all as one."""
        return ()

    def check(self, latent_shape: Sequence[int]) -> None:
        """Raises :class:`BadValue` for clip shapes ``[c, t, *space]`` that the network does not support."""

    def tokens(self, latent_shape: Sequence[int]) -> int | None:
        """The number of tokens of a clip ``[c, t, *space]``; None if unknown."""
        return None

    def flops(self, batch: int, latent_shape: Sequence[int], text_tokens: int) -> Flops | None:
        """Floating-point operations of one forward pass over ``batch`` clips ``[c, t, *space]``; None if unknown."""
        return None

    def activation_bytes(
        self, batch: int, latent_shape: Sequence[int], text_tokens: int, passes: int = 1
    ) -> int | None:
        """Bytes that a training step keeps for its backward pass under bfloat16 autocast; None if unknown.

        Args:
            batch, latent_shape, text_tokens: of one forward pass.
            passes: forward passes before one backward pass.
        """
        return None

    def kernels(self) -> dict[str, str]:
        """The kernels that the last forward pass used, by purpose; empty if there is no choice."""
        return {}

    def spread_tokens(self, spread: Spread) -> None:
        """Distributes every clip's tokens over processes; raises :class:`BadValue` for a network without tokens."""
        raise BadValue(
            "trainer.strategy", "sequence", f"fsdp2 or hsdp: a {type(self).__name__} has no tokens to spread"
        )

    @property
    def unchanged(self) -> frozenset[str]:
        """Names of weights that still equal the pretrained ones, so that checkpoints can leave them out."""
        return frozenset()

    def identity_parts(self, stored: Collection[str]) -> set[str]:
        """Names of the weights of parts that start as the identity and of which ``stored`` has no weight."""
        return set()

    def cast(self, dtype: torch.dtype) -> None:
        """Converts the weight matrices to another precision, for inference; the output stays float32.

        Raises:
            BadValue: the network does not support this precision.
        """
        if dtype != torch.float32:
            raise BadValue("torch_dtype", str(dtype).removeprefix("torch."), f"float32 for a {type(self).__name__}")
        self.to(dtype)

    def merge_adapters(self) -> bool:
        """Merges the adapters into the base weights; returns whether there were any."""
        return False

    @abstractmethod
    def zero_output(self) -> None:
        """Sets the head to zero, so that an untrained correction reproduces the interpolation."""
