"""A gate per position that chooses among hypotheses, for objectives that add a correction to the interpolation."""

from abc import ABC
from math import exp, isfinite
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Alternatives, BadValue, ClipSpec, Corrupted, NumLevels
from interp_refiner.model.objective.objective import Objective


@final
class Gate:
    """Weights of the hypotheses ``h_1 .. h_k`` in every position, from logits ``l_2 .. l_k`` of the network:

        w_j = odds_j (exp(l_j) - 1) / (1 + sum_i odds_i exp(l_i))     odds_j = exp(-bias) present_j     j = 2..k
        w_1 = 1 - sum_j w_j

    This is ``softmax(0, l_j + log odds_j)`` less what its start would give to ``h_j``. So logits of zero are ``h_1 =
    zbar`` exactly and have a gradient; one large logit is its hypothesis exactly; ``present = 0`` takes a hypothesis
    out. The price: a weight can fall to ``-odds_j``. No smooth gate with weights in 0..1 has both: at a weight of 0 it
    would be at its minimum, without a gradient.

    Args:
        bias: of ``h_1``, in nats: how much evidence it takes to leave ``zbar``.
        groups: of neighbouring channels, each with a choice of its own.

    Raises:
        BadValue: a bias that is not finite, no group.
    """

    def __init__(self, bias: float = 2.0, groups: int = 1):
        if not isfinite(bias):
            raise BadValue("bias", bias, "a finite number of nats, such as 2")
        if groups < 1:
            raise BadValue("groups", groups, "a number of groups of channels >= 1")
        self.bias, self.groups = bias, groups

    def logits(self, latent_channels: int, num_hypotheses: int) -> int:
        """How many logits a position of ``k`` hypotheses has; 0 where there is nothing to choose.

        Raises:
            BadValue: groups that do not divide the channels.
        """
        if num_hypotheses > 1 and latent_channels % self.groups:
            raise BadValue("objective.gate.groups", self.groups, f"a divisor of the {latent_channels} latent channels")
        return (num_hypotheses - 1) * self.groups

    def weights(
        self, logits: Float[Tensor, "b n g t *space"], present: Float[Tensor, "b n t *ones"]
    ) -> Float[Tensor, "b n g t *space"]:
        """``w_2 .. w_k`` of every group of channels, in float32."""
        odds = (exp(-self.bias) * present.float()).unsqueeze(2)
        logits = torch.where(odds > 0, logits.float(), 0.0)
        largest = logits.detach().amax(1, keepdim=True).clamp(min=0)  # exp does not overflow; cancels
        risen, start = (logits - largest).exp(), (-largest).exp()
        return odds * (risen - start) / (start + (odds * risen).sum(1, keepdim=True))

    def __call__(self, logits: Float[Tensor, "b l t *space"], offered: Alternatives) -> Float[Tensor, "b c t *space"]:
        """``sum_j w_j (h_j - zbar)``: what choosing adds to the interpolation."""
        offsets = offered.offsets
        n, channels = offsets.shape[1:3]
        weights = self.weights(logits.unflatten(1, (n, self.groups)), offered.present)
        of_groups = offsets.unflatten(2, (self.groups, channels // self.groups))
        return (weights.unsqueeze(3) * of_groups).sum(1).flatten(1, 2)


class Mixture(Objective, ABC):
    """An objective whose estimate is ``zbar`` and a correction; with hypotheses, a mixture of them and a correction:

        z0_hat = sum_k w_k h_k + correction

    The network's output then has the logits of a :class:`Gate` behind the latent channels.

    Args:
        spec: of the clips.
        num_levels: S, the sparsest level.
        temporal_weight: weight of the frame-to-frame differences.
        gate: how logits become weights; None for :class:`Gate` as it is by default.
    """

    zero_start = True

    def __init__(self, spec: ClipSpec, num_levels: NumLevels, temporal_weight: float = 1.0, gate: Gate | None = None):
        super().__init__(spec, num_levels, temporal_weight)
        self.gate = gate or Gate()

    def out_channels(self, latent_channels: int, num_hypotheses: int) -> int:
        return latent_channels + self.gate.logits(latent_channels, num_hypotheses)

    def chosen(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> tuple[Float[Tensor, "b c t *space"], Tensor]:
        """The part of the output that corrects, and ``sum_k w_k h_k - zbar``: a scalar 0 where nothing is offered.

        Raises:
            ValueError: an output of another number of channels.
        """
        zbar, offered = corrupted.interpolation, corrupted.alternatives
        channels, k = zbar.shape[1], 1 if offered is None else 1 + offered.offsets.shape[1]
        if output.shape[1] != (expected := self.out_channels(channels, k)):
            raise ValueError(f"an output of {output.shape[1]} channels: expected {expected} for {k} hypotheses")
        if offered is None:
            return output, zbar.new_zeros(())
        return output[:, :channels], self.gate(output[:, channels:], offered)

    def undecided(
        self, correction: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b o t *space"]:
        """The output with this correction whose gate stays at ``zbar``."""
        k = 1 if corrupted.hypotheses is None else corrupted.hypotheses.shape[1]
        silent = self.out_channels(correction.shape[1], k) - correction.shape[1]
        return torch.cat([correction, torch.zeros_like(correction[:, :1]).expand(-1, silent, *correction.shape[2:])], 1)
