"""The base class of backbones, which map a corrupted clip to the objective's quantity."""

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
    """What data, interpolator and objective decide of a backbone.

    Attributes:
        spec: of the clips: their channels, and the width of their prompts' embeddings.
        num_hypotheses: of the interpolator; they are shown among the keyframe channels. 0: there is no interpolation,
            and the state is all that is shown.
        outputs: channels of the output for the objective; None for those of the clips.
    """

    spec: ClipSpec
    num_hypotheses: int = 1
    outputs: int | None = None

    @property
    def out_channels(self) -> int:
        """Channels of the output, those of the clips or more."""
        return self.outputs or self.spec.channels


class Backbone(nn.Module, ABC):
    """A network from the corrupted clip to one output per latent value, and more per position where the objective asks
    for it; tokens never leave it.

    Attributes:
        adapters: that :meth:`merge_adapters` has merged, by the layers beside which they were.
        compiled: whether its blocks are compiled.
    """

    adapters: Mapping[str, Adapter] = {}
    compiled: bool = False

    @property
    def divisor(self) -> tuple[int, int]:
        """What rows and columns of latents must be divisible by."""
        return 1, 1

    @abstractmethod
    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t *space"]:
        """The network's output; its meaning is the objective's. ``corrupted.clean`` is never read.

        A corrupted clip is shown with its keyframe content; a generator of keyframes says itself what is shown.

        Float32, whatever the precision of weights and autocast: clean estimates, losses and samples are computed from
        it, and half precision would round latents.
        """

    @property
    def transformer(self) -> tuple[str, nn.Module] | None:
        """A model of diffusers in the network, by the name of its attribute: an export saves it as its own class."""
        return None

    @property
    def units(self) -> Sequence[nn.Module]:
        """The modules that run one after the other, each of which a strategy shards as one; none: all as one."""
        return ()

    def check(self, latent_shape: Sequence[int]) -> None:
        """Refuses, with :class:`BadValue`, clips ``[c, t, *space]`` that the network cannot take."""

    def tokens(self, latent_shape: Sequence[int]) -> int | None:
        """Tokens of a clip ``[c, t, *space]``; None where the network does not say."""
        return None

    def flops(self, batch: int, latent_shape: Sequence[int], text_tokens: int) -> Flops | None:
        """Operations of one forward pass over ``batch`` clips ``[c, t, *space]``; None where they are not counted."""
        return None

    def activation_bytes(
        self, batch: int, latent_shape: Sequence[int], text_tokens: int, passes: int = 1
    ) -> int | None:
        """What a training step keeps for its backward pass under bfloat16 autocast; None where it is not known.

        Args:
            batch, latent_shape, text_tokens: of one forward pass.
            passes: forward passes before one backward pass.
        """
        return None

    def kernels(self) -> dict[str, str]:
        """Which kernels the last forward pass ran, by what for; nothing where there is no choice."""
        return {}

    def spread_tokens(self, spread: Spread) -> None:
        """Has every clip shared by several processes; refused, with :class:`BadValue`, by a network without tokens."""
        raise BadValue(
            "trainer.strategy", "sequence", f"fsdp2 or hsdp: a {type(self).__name__} has no tokens to spread"
        )

    @property
    def unchanged(self) -> frozenset[str]:
        """The names of weights that are still those of pretrained ones: checkpoints need not hold them."""
        return frozenset()

    def identity_blocks(self, stored: Collection[str]) -> set[str]:
        """The names of weights of blocks that ``stored`` names none of, where new blocks start as the identity."""
        return set()

    def cast(self, dtype: torch.dtype) -> None:
        """Gives the matrices another precision, for inference; the output stays float32.

        Raises:
            BadValue: a precision that the network has not.
        """
        if dtype != torch.float32:
            raise BadValue("torch_dtype", str(dtype).removeprefix("torch."), f"float32 for a {type(self).__name__}")
        self.to(dtype)

    def merge_adapters(self) -> bool:
        """Adds adapters to the weights beside which they are, for good; says whether there were any."""
        return False

    @abstractmethod
    def zero_output(self) -> None:
        """Sets the head to zero, so that an untrained correction leaves the interpolation as it is."""
