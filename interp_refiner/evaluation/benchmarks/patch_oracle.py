"""An upper bound for choosing between interpolations: an oracle that knows the truth chooses at every position."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, Measure, choice, masked_mean
from interp_refiner.data.codec import Codec
from interp_refiner.evaluation.benchmarks.interpolators import HeldOutClips, unusable
from interp_refiner.evaluation.measures import missing_frame_mse, paired_bootstrap
from interp_refiner.evaluation.records.markdown import figure_table
from interp_refiner.forward.interpolator import Interpolator
from interp_refiner.forward.schedule.uniform import evenly_spaced

BATCH = 8  # clips at a time
ORACLE = "the best at every position"


class PatchOracle:
    """Compares the best of several interpolations, chosen at every position of every missing frame, with one of them.

    All hypotheses of an interpolator are candidates; further ones are numbered from 2. The result is a bound for a
    refiner that only chooses between interpolations; a gate that mixes them can be better.

    Args:
        interpolators: by name. Those that cannot run are left out and named: learned ones without a checkpoint, and
            pixel-space ones if the clips have no decoder.
        clips: the held-out clips.
        counts: K, evenly spaced keyframes.
        base: the interpolator that errors are relative to; None for the first.

    Raises:
        BadValue: a base that is not among the interpolators or cannot run, or a count that leaves no frame missing.
    """

    def __init__(
        self,
        interpolators: Mapping[str, Interpolator],
        clips: HeldOutClips,
        counts: Sequence[int] = (5, 8),
        base: str | None = None,
    ):
        if not interpolators:
            raise BadValue("interpolators", None, "at least one, the base")
        self.base = next(iter(interpolators)) if base is None else choice("base", base, interpolators)
        if not counts or min(counts) < 2:
            raise BadValue("counts", list(counts), "numbers of keyframes of at least 2")
        self.interpolators, self.counts = dict(interpolators), list(counts)
        self.clips = clips

    @torch.no_grad()
    def run(self, device: str) -> dict[str, Any]:
        """One row per K and interpolation, the oracle last.

        ``ratio``: missing-frame MSE relative to the base's; ``pixels``: the same on decoded frames; ``chosen``: the
        share of positions at which the oracle chooses the interpolation.
        """
        clean, codec = self.clips.read()
        clean, codec = clean.to(device), codec.to(device)
        if max(self.counts) >= clean.shape[2]:
            raise BadValue("counts", self.counts, f"numbers of keyframes below {clean.shape[2]}, the frames of a clip")
        left_out = {name: reason for name, i in self.interpolators.items() if (reason := unusable(i, codec))}
        taking_part = {n: i.with_codec(codec).to(device) for n, i in self.interpolators.items() if n not in left_out}
        if self.base in left_out:
            raise BadValue("base", self.base, f"an interpolator that can run; this one cannot: {left_out[self.base]}")
        rows = [row for count in self.counts for row in judge(taking_part, self.base, clean, count, codec)]
        return {
            "root": str(self.clips.folder), "shape": list(clean.shape), "base": self.base, "left_out": left_out,
            "rows": rows,
        }  # fmt: skip

    def markdown(self, result: dict[str, Any]) -> str:
        """A Markdown table for every K."""
        parts = [f"{result['shape'][0]} clips of `{result['shape'][1:]}`."]
        parts += [f"Left out: {name}, {reason}." for name, reason in result["left_out"].items()]
        measures = (
            Measure("ratio", f"MSE relative to {self.base}"),
            Measure("ratio_interval", "95%"),
            Measure("pixels", "in pixels"),
            Measure("chosen", "chosen", "higher", digits=2),
        )
        for count in self.counts:
            rows = [(row["interpolation"], row) for row in result["rows"] if row["keyframes"] == count]
            parts.append(f"{count} keyframes:\n\n{figure_table('interpolation', rows, measures)}")
        return "\n\n".join(part.rstrip() for part in parts)


def judge(
    interpolators: Mapping[str, Interpolator],
    base: str,
    clean: Float[Tensor, "b c t h w"],
    count: int,
    codec: Codec,
) -> list[dict[str, Any]]:
    """The rows for one number of keyframes."""
    known = torch.zeros(clean.shape[0], clean.shape[2], dtype=torch.bool, device=clean.device)
    known[:, evenly_spaced(clean.shape[2], count)] = True
    latents, pixels, shares, names = [], [], [], []
    for truth, keyframes in zip(clean.split(BATCH), known.split(BATCH), strict=True):
        offers = candidates(interpolators, truth, keyframes)
        best, chosen = choose(torch.stack(list(offers.values()), 1), truth)
        names = [*offers, ORACLE]
        decoded, missing = codec.decode(truth), ~keyframes
        every = [*offers.values(), best]
        latents.append(torch.stack([missing_frame_mse(video, truth, missing) for video in every], 1))
        pixels.append(torch.stack([missing_frame_mse(codec.decode(video), decoded, missing) for video in every], 1))
        shares.append(
            torch.stack([masked_mean((chosen == k).float().mean((2, 3)), missing) for k in range(len(offers))], 1)
        )
    first = names.index(base)
    error, in_pixels, share = torch.cat(latents), torch.cat(pixels).mean(0), torch.cat(shares).mean(0)
    return [
        {
            "keyframes": count,
            "interpolation": name,
            "mse": error[:, k].mean().item(),
            "ratio": (ratio := paired_bootstrap(error[:, k], error[:, first])).value,
            "ratio_interval": [ratio.low, ratio.high],
            "pixels": (in_pixels[k] / in_pixels[first]).item(),
            "chosen": share[k].item() if name != ORACLE else 1.0,
        }
        for k, name in enumerate(names)
    ]


def candidates(
    interpolators: Mapping[str, Interpolator], values: Float[Tensor, "b c t h w"], known: Bool[Tensor, "b t"]
) -> dict[str, Float[Tensor, "b c t h w"]]:
    """The candidates: every interpolator's interpolation, and its further hypotheses by number."""
    offers = {}
    for name, interpolator in interpolators.items():
        filled = interpolator(values, known)
        offers[name] = filled.latents
        if filled.hypotheses is not None:
            offers |= {f"{name} {k}": filled.hypotheses[:, k - 1] for k in range(2, filled.hypotheses.shape[1] + 1)}
    return offers


def choose(
    offered: Float[Tensor, "b k c t h w"], truth: Float[Tensor, "b c t h w"]
) -> tuple[Float[Tensor, "b c t h w"], Int[Tensor, "b t h w"]]:
    """At every position the candidate with the least squared error over channels (the first on ties), and its index."""
    best = (offered - truth.unsqueeze(1)).square().mean(2).argmin(1)
    return offered.take_along_dim(best[:, None, None], 1).squeeze(1), best
