"""The order of samples: a function of (seed, epoch) alone."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
import torch

from interp_refiner.core import derived_seed


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0..num_samples-1."""
    return _orders(num_samples, seed)(epoch)


@cache
def _orders(num_samples: int, seed: int) -> Callable[[int], np.ndarray]:
    """The permutations of one bucket; keeps two of every bucket, because a batch may reach into the next epoch."""

    @lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
        return torch.randperm(num_samples, generator=generator).numpy()

    return order


def stream(position: int, num_samples: int, seed: int) -> tuple[int, int]:
    """(epoch, sample) at a position of the infinite stream of all epochs, one after the other."""
    epoch, place = divmod(position, num_samples)
    return epoch, int(epoch_order(num_samples, seed, epoch)[place])


def next_bucket(positions: Sequence[int], sizes: Sequence[int]) -> int:
    """The bucket of the next batch: the one that is furthest behind in its epoch, on ties the first.

    So buckets get batches in proportion to their sizes, and their epochs stay within one batch of each other.
    """
    return min(range(len(sizes)), key=lambda bucket: Fraction(positions[bucket], sizes[bucket]))


def dealt(position: int, batch_size: int, rank: int, world_size: int) -> range:
    """The stream positions of one rank's batch in the global batch that starts at ``position``: every world_size-th."""
    return range(position + rank, position + batch_size * world_size, world_size)


def fixed_order(num_samples: int, limit: int | None = None) -> list[int]:
    """The first ``limit`` samples of an order that is the same in every run, for any seed."""
    generator = torch.Generator().manual_seed(derived_seed("fixed order"))
    return torch.randperm(num_samples, generator=generator)[:limit].tolist()
