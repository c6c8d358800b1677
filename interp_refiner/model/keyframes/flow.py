"""Flow matching on keyframes: from noise at ``u = 1`` to keyframes at ``u = 0``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Draws, frame_mean, masked_mean, per_frame, positive
from interp_refiner.model.backbone import Shown

Network = Callable[[Shown], Tensor]
MEASURED = 100  # number of training batches from which the channels' variances are estimated


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of a batch of clips.

    Attributes:
        latents: their latents.
        positions: the frame number of each keyframe in its clip, increasing.
        text: prompt embeddings; None for no prompt.
    """

    latents: Float[Tensor, "b c k *space"]
    positions: Int[Tensor, "b k"]
    text: Float[Tensor, "b l d"] | None


@dataclass(frozen=True)
class FlowTime:
    """The shifted logit-normal distribution of flow times (Esser et al. 2024, equations 19 and 23).

        u = s v / (1 + (s - 1) v)        v = 1 / (1 + exp(-(mean + deviation n)))        n ~ N(0, 1)

    Attributes:
        mean, deviation: mean and standard deviation of ``log(v / (1 - v))``.
        shift: s; above 1 trains at higher noise levels, which large latents need.

    Raises:
        BadValue: a deviation or shift that is not above 0.
    """

    mean: float = 0.0
    deviation: float = 1.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        for name in ("deviation", "shift"):
            positive(name, getattr(self, name))

    def __call__(self, draws: Draws) -> Float[Tensor, " b"]:
        """One flow time per sample, on the host."""
        normal = draws.normal("flow_time", torch.empty(len(draws.keys), 1)).squeeze(1)
        return shifted(torch.sigmoid(self.mean + self.deviation * normal), self.shift)


def shifted(u: Float[Tensor, "*n"], shift: float) -> Float[Tensor, "*n"]:
    """``s u / (1 + (s - 1) u)``: keeps 0 and 1, and increases the times in between if ``s > 1``."""
    return shift * u / (1 + (shift - 1) * u)


class KeyframeFlow(nn.Module, ABC):
    """The straight path from keyframes to noise (docs/method.md, Keyframes from text):

        x = (1 - u) w z + u eps        v = dx/du = eps - w z        loss = E |v_hat - v|^2

    with a weight w per channel. If the weights are the channels' scales in the picture, weak channels disappear in the
    noise first and are generated last. Given keyframes have ``u = 0``.

    Args:
        spec: of the clips.
        time: distribution of u in training; None for ``FlowTime()``.
        given: share of the training clips that may have given keyframes.

    Attributes:
        zero_start: whether the head is zero-initialised.

    Raises:
        BadValue: a share outside 0..1.
    """

    zero_start: ClassVar[bool]
    weight: Float[Tensor, " c"]

    def __init__(self, spec: ClipSpec, time: FlowTime | None = None, given: float = 0.5):
        super().__init__()
        if not 0 <= given <= 1:
            raise BadValue("given", given, "a share from 0 to 1")
        self.time, self.given = time or FlowTime(), given
        self.register_buffer("weight", torch.tensor(self.weights(spec)), persistent=False)

    @abstractmethod
    def weights(self, spec: ClipSpec) -> Sequence[float]:
        """The weight w of every channel."""

    @abstractmethod
    def velocity(
        self, network: Network, x: Float[Tensor, "b c k *space"], u: Float[Tensor, "b k"], of: Keyframes
    ) -> Float[Tensor, "b c k *space"]:
        """``v_hat`` at state x; every keyframe has its own time u. ``of`` gives positions and text, not latents."""

    def state(
        self, latents: Float[Tensor, "b c k *space"], noise: Float[Tensor, "b c k *space"], u: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b c k *space"]:
        """The state ``x``; every keyframe has its own time u."""
        time = per_frame(u, latents)
        return (1 - time) * self._weighted(latents) + time * noise

    def latents(self, x: Float[Tensor, "b c k *space"]) -> Float[Tensor, "b c k *space"]:
        """The keyframes' latents, from a state at ``u = 0``."""
        return x / self.weight.view(-1, *[1] * (x.ndim - 2))

    def loss(self, network: Network, of: Keyframes, draws: Draws, given: Bool[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """``|v_hat - v|^2`` of every sample, averaged over the keyframes that are not given."""
        u = torch.where(given, 0.0, self.time(draws).to(of.latents.device, non_blocking=True).unsqueeze(1))
        noise = draws.normal("flow_noise", of.latents)
        predicted = self.velocity(network, self.state(of.latents, noise, u), u, of)
        return masked_mean(frame_mean((predicted - (noise - self._weighted(of.latents))).square()), ~given)

    def draw_given(self, draws: Draws, num_keyframes: int, device: torch.device) -> Bool[Tensor, "b k"]:
        """Draws which keyframes are given in training, never all.

        Half of the clips in the share ``given`` have one given keyframe. It shows the objects and their places, and the
        caption describes their motion. In the other half, every keyframe is given with a probability drawn from 0..1.
        """
        u = draws.uniform("given", num_keyframes + 2, device)
        some, probability, each = u[:, :1] < self.given, 2 * u[:, 1:2] - 1, u[:, 2:]  # below 0: one keyframe
        least, most = each.amin(1, keepdim=True), each.amax(1, keepdim=True)
        return some & torch.where(probability < 0, each == least, each < probability) & (each < most)

    def measure(self, latents: Float[Tensor, "b c k *space"], mean: Callable[[Tensor], Tensor]) -> None:
        """Updates statistics from a training batch; ``mean`` averages over processes. By default does nothing."""

    def _weighted(self, latents: Float[Tensor, "b c k *space"]) -> Float[Tensor, "b c k *space"]:
        return latents * self.weight.view(-1, *[1] * (latents.ndim - 2))


@final
class Velocity(KeyframeFlow):
    """The network's output is the velocity of unweighted latents, as in Wan's training. Its head is kept."""

    zero_start = False

    def weights(self, spec: ClipSpec) -> Sequence[float]:
        return [1.0] * spec.channels

    def velocity(
        self, network: Network, x: Float[Tensor, "b c k *space"], u: Float[Tensor, "b k"], of: Keyframes
    ) -> Float[Tensor, "b c k *space"]:
        return network(Shown(x, 1000 * u, of.text, positions=of.positions))


@final
class Preconditioned(KeyframeFlow):
    """Channels have their scale in the picture; the network's inputs and targets have unit variance.

    ``w_c`` is the standard deviation by which the data set divided channel c, relative to the RMS over channels. With
    ``d_c`` the standard deviation of ``w z``, the velocity of a Gaussian is linear in x, and the network predicts the
    rest (Karras et al. 2022, section 5, for straight paths):

        rho^2 = (1 - u)^2 d^2 + u^2        v_hat = (u - (1 - u) d^2) / rho^2 x + d / rho network(x / rho)

    d is measured on the first training batches and saved with the weights.
    """

    zero_start = True
    square: Float[Tensor, " c"]
    batches: Int[Tensor, ""]

    def __init__(self, spec: ClipSpec, time: FlowTime | None = None, given: float = 0.5):
        super().__init__(spec, time, given)
        self.register_buffer("square", self.weight.square())
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def weights(self, spec: ClipSpec) -> Sequence[float]:
        scale = torch.tensor(spec.latents_std if spec.latents_std is not None else [1.0] * spec.channels)
        return (scale / scale.square().mean().sqrt()).tolist()

    def velocity(
        self, network: Network, x: Float[Tensor, "b c k *space"], u: Float[Tensor, "b k"], of: Keyframes
    ) -> Float[Tensor, "b c k *space"]:
        time, square = per_frame(u, x), self.square.view(-1, *[1] * (x.ndim - 2))
        rho2 = (1 - time).square() * square + time.square()
        added = network(Shown(x * rho2.rsqrt(), 1000 * u, of.text, positions=of.positions))
        return (time - (1 - time) * square) / rho2 * x + (square / rho2).sqrt() * added

    @torch.no_grad()
    def measure(self, latents: Float[Tensor, "b c k *space"], mean: Callable[[Tensor], Tensor]) -> None:
        """Updates the mean of ``(w z)^2`` during the first :data:`MEASURED` batches."""
        square = mean(self._weighted(latents).float().square().transpose(0, 1).flatten(1).mean(1))
        seen = self.batches.clamp(max=MEASURED)
        known = self.batches >= MEASURED
        self.square.copy_(torch.where(known, self.square, (seen * self.square + square) / (seen + 1)))
        self.batches += 1
