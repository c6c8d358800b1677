"""Keeps the best of several samples of keyframes, by a score of how well they match their prompts."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws, check_least, per_sample
from interp_refiner.model.keyframes.source import KeyframeRequest, KeyframeSource

Decode = Callable[[Tensor], Tensor]
"""Decodes latents ``[b, c, t, y, x]`` to RGB video ``[b, 3, t, h, w]`` in 0..1, as a codec does."""

log = logging.getLogger(__name__)


@runtime_checkable
class KeyframeScorer(Protocol):
    """Judges how well keyframes match their prompts."""

    def __call__(self, pictures: Float[Tensor, "b 3 k h w"], prompts: Sequence[str]) -> Float[Tensor, " b"]:
        """A score per clip; the higher, the better the match. Scores of different prompts need not be comparable.

        Args:
            pictures: the keyframes, RGB in 0..1, on the host.
            prompts: one per clip.

        Returns:
            Shape ``[b]``; a score that is not a number counts as the lowest.
        """
        ...


@final
@dataclass(frozen=True)
class Choice:
    """How many candidates of a clip's keyframes are sampled, and how one of them is chosen.

    The candidate with the highest score is kept (DALL-E keeps the best of its samples by CLIP: Ramesh et al. 2021,
    section 2.6). The cost is proportional to the number of candidates.

    Attributes:
        scorer: judges how well a candidate matches its prompt; None keeps the first candidate.
        candidates: N, the number of candidates.

    Raises:
        BadValue: no candidate, or several and no scorer.
    """

    scorer: KeyframeScorer | None = None
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.scorer is not None and not callable(self.scorer):
            raise BadValue("scorer", self.scorer, "a KeyframeScorer: a function of pictures and prompts")
        check_least(self, candidates=1)
        if self.scorer is None and self.candidates > 1:
            raise BadValue("candidates", self.candidates, "1 without a scorer")

    def among(self, source: KeyframeSource, decode: Decode) -> KeyframeSource:
        """The source that makes N candidates with ``source`` and returns the best; ``source`` itself if N is 1."""
        return source if self.scorer is None or self.candidates == 1 else BestOf(source, self, decode)


def pictures_of(decode: Decode, latents: Float[Tensor, "b c k y x"]) -> Float[Tensor, "b 3 k h w"]:
    """One picture per keyframe, each decoded alone, because the frames between keyframes do not exist."""
    alone = latents.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    return decode(alone)[:, :, -1].unflatten(0, (len(latents), -1)).transpose(1, 2)


@final
class BestOf(KeyframeSource):
    """Keeps the candidate with the highest score, for every clip separately.

    The first candidate equals the source's result without a choice. Clips without a prompt keep the first candidate.

    Args:
        source: makes the candidates.
        choice: their number, and the scorer.
        decode: the codec's decoder; see :func:`pictures_of`.
    """

    def __init__(self, source: KeyframeSource, choice: Choice, decode: Decode):
        self.source, self.choice, self.decode = source, choice, decode
        self.takes_given, self.spec = source.takes_given, source.spec

    def __repr__(self) -> str:
        return f"best of {self.choice.candidates} by {self.choice.scorer!r}: {self.source!r}"

    @property
    def guided(self) -> bool:
        return self.source.guided

    def evaluations(self, free: int) -> int:
        return self.choice.candidates * self.source.evaluations(free)

    def of_steps(self, steps: int) -> "BestOf":
        return BestOf(self.source.of_steps(steps), self.choice, self.decode)

    def to(self, device: torch.device) -> "BestOf":
        self.source.to(device)
        return self

    @torch.no_grad()
    def __call__(self, request: KeyframeRequest, draws: Draws) -> Float[Tensor, "b c k *space"]:
        best, prompts = self.source(request, draws), request.prompts
        if prompts is None or not any(prompts):
            return best
        has_prompt = torch.tensor([bool(prompt) for prompt in prompts])
        first = scores = self._scores(best, request, prompts)
        chosen, equal = torch.ones_like(scores, dtype=torch.long), has_prompt
        for number in range(2, self.choice.candidates + 1):
            made = self.source(request, replace(draws, stream=f"{draws.stream}_candidate_{number}"))
            found = self._scores(made, request, prompts)
            better, equal = (found > scores) & has_prompt, equal & (found == first)
            best = torch.where(per_sample(better.to(best.device), best), made, best)
            scores, chosen = torch.where(better, found, scores), chosen.masked_fill(better, number)
        log.info(self._summary(chosen.tolist(), first, scores))
        if unread := int(equal.sum()):
            log.warning("%d of %d prompts: all samples have the same score, so the first is kept", unread, len(prompts))
        return best

    def _scores(self, made: Tensor, request: KeyframeRequest, prompts: Sequence[str]) -> Float[Tensor, " b"]:
        """The candidates' scores, from the keyframes that the prompts are about."""
        shown = made if request.about is None else made[:, :, request.about.any(0)]
        assert self.choice.scorer is not None
        scores = self.choice.scorer(pictures_of(self.decode, shown).float().cpu(), prompts)
        if scores.shape != (len(prompts),):
            raise BadValue("scorer", list(scores.shape), f"scores of shape {[len(prompts)]}, one per clip")
        return scores.float().cpu().nan_to_num(nan=-inf)

    def _summary(self, chosen: Sequence[int], first: Tensor, scores: Tensor) -> str:
        count = self.choice.candidates
        if len(chosen) > 1:
            return f"best of {count} samples: the first one was kept for {chosen.count(1)} of {len(chosen)} clips"
        return f"keyframes: sample {chosen[0]} of {count}, score {scores.item():.3g} (the first: {first.item():.3g})"
