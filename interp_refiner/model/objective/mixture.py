"""A gate that chooses among hypotheses at every position, for objectives that add a correction to the interpolation."""

from abc import ABC
from math import exp, isfinite
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Alternatives, BadValue, ClipSpec, Corrupted, NumLevels
from interp_refiner.model.objective.objective import Objective
from interp_refiner.model.objective.robust import Robust


@final
class Gate:
    """Weights of the hypotheses ``h_1 .. h_k`` at every position, from the network's logits ``l_2 .. l_k``:

        w_j = odds_j (exp(l_j) - 1) / (1 + sum_i odds_i exp(l_i))     odds_j = exp(-bias) present_j     j = 2..k
        w_1 = 1 - sum_j w_j

    This is ``softmax(0, l_j + log odds_j)`` minus a term that makes ``w_j = 0`` at ``l_j = 0``. So zero logits give
    exactly ``h_1 = zbar``, with a nonzero gradient. One large logit gives its hypothesis alone. ``present = 0`` removes
    a hypothesis. In return, weights can be negative, down to about ``-odds_j``. A smooth gate with weights in 0..1 has
    no gradient where a weight is exactly 0, because 0 is its minimum.

    Args:
        bias: log odds of ``h_1``, in nats; the larger, the larger the logits needed to leave ``zbar``.
        groups: number of groups of neighbouring channels; each group chooses separately.

    Raises:
        BadValue: a bias that is not finite, or no group.
    """

    def __init__(self, bias: float = 2.0, groups: int = 1):
        if not isfinite(bias):
            raise BadValue("bias", bias, "a finite number of nats, such as 2")
        if groups < 1:
            raise BadValue("groups", groups, "a number of groups of channels >= 1")
        self.bias, self.groups = bias, groups

    def logits(self, latent_channels: int, num_hypotheses: int) -> int:
        """The number of logits per position for ``k`` hypotheses; 0 if there is nothing to choose.

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
        largest = logits.detach().amax(1, keepdim=True).clamp(min=0)  # avoids overflow of exp; cancels in the ratio
        scaled, one = (logits - largest).exp(), (-largest).exp()  # exp(l_j) and 1, both times exp(-largest)
        return odds * (scaled - one) / (one + (odds * scaled).sum(1, keepdim=True))

    def __call__(self, logits: Float[Tensor, "b l t *space"], offered: Alternatives) -> Float[Tensor, "b c t *space"]:
        """``sum_j w_j (h_j - zbar)``: the gate's contribution to the estimate."""
        offsets = offered.offsets
        n, channels = offsets.shape[1:3]
        weights = self.weights(logits.unflatten(1, (n, self.groups)), offered.present)
        of_groups = offsets.unflatten(2, (self.groups, channels // self.groups))
        return (weights.unsqueeze(3) * of_groups).sum(1).flatten(1, 2)


class Mixture(Objective, ABC):
    """An objective whose estimate is a mixture of hypotheses (without hypotheses: ``zbar``) plus a correction:

        z0_hat = sum_k w_k h_k + correction

    With hypotheses, the network's output has the logits of a :class:`Gate` after the latent channels.

    Args:
        spec: of the clips.
        num_levels: S, the sparsest level.
        temporal_weight: weight of the frame-to-frame differences.
        gate: turns logits into weights; None for the default :class:`Gate`.
        penalty: see :class:`Objective`.
    """

    zero_start = True

    def __init__(
        self,
        spec: ClipSpec,
        num_levels: NumLevels,
        temporal_weight: float = 1.0,
        gate: Gate | None = None,
        penalty: Robust | None = None,
    ):
        super().__init__(spec, num_levels, temporal_weight, penalty)
        self.gate = gate or Gate()

    def out_channels(self, latent_channels: int, num_hypotheses: int) -> int:
        return latent_channels + self.gate.logits(latent_channels, num_hypotheses)

    def chosen(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> tuple[Float[Tensor, "b c t *space"], Tensor]:
        """The correction part of the output, and ``sum_k w_k h_k - zbar`` (a scalar 0 without hypotheses).

        Raises:
            ValueError: the output has a wrong number of channels.
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
        """The output with this correction and zero logits, for which the gate gives ``zbar``."""
        num_logits = self.gate.logits(correction.shape[1], corrupted.num_hypotheses)
        logits = torch.zeros_like(correction[:, :1]).expand(-1, num_logits, *correction.shape[2:])
        return torch.cat([correction, logits], 1)
