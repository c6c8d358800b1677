"""Counts the keyframes that are proposals in an evaluation."""

from collections import Counter

from interp_refiner.core import Corrupted


class ReplacedKeyframes:
    """Counts, by level, keyframes that are not given, and those that were replaced by proposals."""

    def __init__(self) -> None:
        self.shown: Counter[int] = Counter()
        self.replaced: Counter[int] = Counter()

    def update(self, corrupted: Corrupted, level: int) -> None:
        """Adds a batch of one level."""
        self.shown[level] += int((corrupted.known & ~corrupted.given).sum())
        self.replaced[level] += int(corrupted.replaced.sum())

    def shares(self) -> dict[int, float]:
        """The replaced share by level; levels where all keyframes are given are left out."""
        return {level: self.replaced[level] / count for level, count in sorted(self.shown.items()) if count}

    def __str__(self) -> str:
        """``"100% of the keyframes"``, or the share by level if the shares differ."""
        shares = {level: f"{share:.1%}".replace(".0%", "%") for level, share in self.shares().items()}
        if len(set(shares.values())) <= 1:
            return f"{next(iter(shares.values()), 'none')} of the keyframes"
        return ", ".join(f"{share} at level {level}" for level, share in shares.items())
