"""The bridge time of a training sample: 0 is clean, 1 is fully corrupted."""

from abc import ABC, abstractmethod
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws


class BridgeTime(ABC):
    """The distribution of the bridge time ``tau``."""

    @property
    @abstractmethod
    def fully_corrupted(self) -> bool:
        """Whether ``tau`` is always 1."""

    @abstractmethod
    def draw(self, draws: Draws, device: torch.device | str) -> Float[Tensor, " b"]:
        """One ``tau`` in (0, 1] per sample."""


class FullyCorrupted(BridgeTime):
    """``tau = 1``: interpolate, then add noise."""

    @property
    def fully_corrupted(self) -> bool:
        return True

    def draw(self, draws: Draws, device: torch.device | str) -> Float[Tensor, " b"]:
        return torch.ones(len(draws.keys), device=device)


class _Drawn(BridgeTime):
    """``tau = 1`` with probability ``at_one``, else drawn by the subclass's quantile function."""

    def __init__(self, at_one: float = 0.3):
        if not 0.3 <= at_one <= 1:
            raise BadValue("at_one", at_one, "a share from 0.3 to 1, because sampling starts at tau = 1")
        self.at_one = at_one

    @property
    def fully_corrupted(self) -> bool:
        return self.at_one == 1

    @abstractmethod
    def quantile(self, u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The inverse of the cumulative distribution of ``tau`` below 1."""

    def draw(self, draws: Draws, device: torch.device | str) -> Float[Tensor, " b"]:
        coin, u = draws.uniform("bridge_time", 2, device).unbind(1)
        return torch.where(coin < self.at_one, 1.0, self.quantile(u))


class Uniform(_Drawn):
    """``tau`` uniform in (0, 1], and exactly 1 with probability ``at_one``, at least 0.3."""

    def quantile(self, u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return 1 - u


class LogitNormal(_Drawn):
    """``logit(tau) ~ N(location, scale^2)`` (Esser et al. 2024, section 3.1), and 1 with probability ``at_one``."""

    def __init__(self, at_one: float = 0.3, location: float = 0.0, scale: float = 1.0):
        super().__init__(at_one)
        if not 0 < scale < inf:
            raise BadValue("scale", scale, "a finite number > 0")
        self.location, self.scale = location, scale

    def quantile(self, u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        normal = torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
        return torch.sigmoid(self.location + self.scale * normal)
