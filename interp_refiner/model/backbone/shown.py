"""The inputs of a network for a batch of clips."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Shown:
    """The inputs of a network, made from a corrupted clip or by a keyframe flow.

    Attributes:
        state: the (scaled) noisy frames.
        times: the timestep, 0..1000, of every frame, or of the whole clip, ``n = 1``.
        text: prompt embeddings; None for no prompt.
        channels: further input channels; None if there are none.
        numbers: per frame, see :class:`FrameNumbers`; None if ``channels`` is None.
        positions: the number of every frame in its clip; None for 0, 1, 2, ...
    """

    state: Float[Tensor, "b c t *space"]
    times: Float[Tensor, "b n"]
    text: Float[Tensor, "b l d"] | None = None
    channels: Float[Tensor, "b k t *space"] | None = None
    numbers: Float[Tensor, "b t 8"] | None = None
    positions: Int[Tensor, "b t"] | None = None
