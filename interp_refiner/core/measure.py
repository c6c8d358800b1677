"""Description of a figure: its name, whether lower or higher is better, and its format."""

from dataclasses import dataclass, replace
from math import isfinite, isnan, nan
from typing import Literal

NOTHING = "–"  # a figure that was not measured
MISSING = "missing frames"  # the default section of a measure
SHARES: tuple[tuple[str, Literal["higher", "lower"]], ...] = (("better", "higher"), ("worse", "lower"))
SUPERLATIVES = {"lower": "Lowest", "higher": "Highest", "one": "Nearest to 1:"}


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval; NaN where it has none."""

    value: float
    low: float = nan
    high: float = nan

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return isfinite(self.low) and isfinite(self.high)


@dataclass(frozen=True)
class Measure:
    """One kind of figure. Tables, plots and reports know figures by these attributes only.

    Attributes:
        name: its name in records.
        heading: its heading in tables; ``{against}`` stands for the baseline of a comparison.
        better: ``lower``, ``higher``, or ``one``: the nearer to 1, the better.
        digits: number of digits after the decimal point.
        percent: whether it is written in percent.
        domain: the clips that it is measured on: ``latents`` (any clip's), ``pixels`` (decoded), ``videos`` (decoded,
            or latents without a decoder) or ``paths``.
        section: the part of a report that it belongs to.
        compared: how methods are compared with a baseline: by the ``ratio``, by the ``difference``, or not.
        neutral: the figure of a method that equals its baseline.
        lead: whether runs are ranked by it.
        brief: whether it is shown in short tables, as on the terminal.
        note: one sentence that explains it.
    """

    name: str
    heading: str
    better: Literal["lower", "higher", "one"] = "lower"
    digits: int = 3
    percent: bool = False
    domain: Literal["latents", "pixels", "videos", "paths"] = "pixels"
    section: str = MISSING
    compared: Literal["ratio", "difference"] | None = None
    neutral: float | None = None
    lead: bool = False
    brief: bool = True
    note: str = ""

    @property
    def superlative(self) -> str:
        """The word for the best value in a sentence."""
        return SUPERLATIVES[self.better]

    def cost(self, value: float) -> float:
        """A number that is lower for a better value."""
        return {"lower": value, "higher": -value, "one": abs(value - 1)}[self.better]

    @property
    def family(self) -> tuple["Measure", ...]:
        """The measure, and the measures that compare two methods by it. These depend on ``compared``:

        - ``ratio``: ``<name>_ratio`` is the ratio of the two figures; ``<name>_better`` and ``<name>_worse`` are shares
          of clips;
        - ``difference``: ``<name>_gain`` is the difference of the two figures.
        """
        if self.compared is None:
            return (self,)
        if self.compared == "difference":
            gain = replace(
                self, name=f"{self.name}_gain", heading=f"{self.heading} - {{against}}", neutral=0.0, brief=False
            )
            return self, gain
        ratio = replace(self, name=f"{self.name}_ratio", heading=f"{self.heading} / {{against}}", neutral=1.0, digits=3)
        shares = [
            replace(
                ratio, name=f"{self.name}_{word}", heading=f"{word} {self.heading} than {{against}}", neutral=None,
                better=better, percent=True, lead=False, brief=self.lead,
            )
            for word, better in SHARES
        ]  # fmt: skip
        return replace(self, lead=False, brief=False), ratio, *shares

    def text(self, found: Interval | float | None, interval: bool = True) -> str:
        """``0.783 (0.751..0.812)``, ``92% (88..95%)``, or a dash if the figure was not measured or is NaN."""
        found = Interval(found) if isinstance(found, float | int) else found
        if found is None or isnan(found.value):
            return NOTHING
        value, low, high = map(self.number, (found.value, found.low, found.high))
        unit = "%" if self.percent else ""
        return f"{value}{unit} ({low}..{high}{unit})" if interval and found.bounded else f"{value}{unit}"

    def number(self, value: float) -> str:
        """A number without its unit."""
        return NOTHING if isnan(value) else f"{100 * value:.0f}" if self.percent else f"{value:.{self.digits}f}"
