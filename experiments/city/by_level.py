"""A table of what was measured on clips, by the number of their keyframes."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class ByLevel:
    """Collects measurements of clips by row and level."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, int], list[Tensor]] = defaultdict(list)

    def add(self, row: str, level: Int[Tensor, " b"], values: Float[Tensor, " b *n"]) -> None:
        """Adds the measurements of a batch."""
        for one, value in zip(level.tolist(), values.double(), strict=True):
            self.found[row, one].append(value)

    def mean(self, row: str, level: int) -> Float[Tensor, "*n"]:
        """The mean over the clips of a level."""
        return torch.stack(self.found[row, level]).mean(0)

    def print(self, corner: str, counts: Sequence[int], cell: Callable[[str, int], str]) -> None:
        """Prints a Markdown table.

        Args:
            corner: its first heading.
            counts: the number of keyframes of every level.
            cell: the text of a row and level.
        """
        levels = sorted({level for _, level in self.found})
        print(f"| {corner} | " + " | ".join(f"{counts[level]} keyframes" for level in levels) + " |")
        print("|---" * (1 + len(levels)) + "|")
        for row in dict.fromkeys(row for row, _ in self.found):
            print(f"| {row} | " + " | ".join(cell(row, level) for level in levels) + " |")
