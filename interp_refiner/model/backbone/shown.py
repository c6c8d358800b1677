"""The input of a network for a batch of clips."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Shown:
    """The inputs of a network, whoever made them: a corrupted clip, or a flow of keyframes.

    Attributes:
        state: the frames as the network takes them in.
        times: the timestep, 0..1000, of every frame, or of the whole clip, ``n = 1``.
        text: prompt embeddings; None for a clip of any kind.
        channels: more input channels; None where the state is all there is.
        numbers: per frame, see :class:`FrameNumbers`; None with ``channels``.
        positions: the number of every frame in its clip; None for 0, 1, 2, ...
    """

    state: Float[Tensor, "b c t *space"]
    times: Float[Tensor, "b n"]
    text: Float[Tensor, "b l d"] | None = None
    channels: Float[Tensor, "b k t *space"] | None = None
    numbers: Float[Tensor, "b t 8"] | None = None
    positions: Int[Tensor, "b t"] | None = None
