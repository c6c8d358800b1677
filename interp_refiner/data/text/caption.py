"""A caption encoder without weights, for data sets that need no real language."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import ClipSpec, at_least, derived_seed
from interp_refiner.core.weights import some
from interp_refiner.data.text.text_encoder import TextEncoder

WORD = re.compile(r"\w+(?:[-']\w+)*")
NAMED_WORDS = 10  # words that a note names


@final
class CaptionEncoder(TextEncoder):
    """A fixed random vector for each word and position, with unit variance per entry:

        e_i = (g(word_i) + g(i)) / sqrt(2),    g(.) ~ N(0, I) seeded by its argument's hash

    Every word has a vector, the same in every process; case and punctuation do not matter. Attention needs the position
    ``i`` to match a colour with its object.

    Args:
        length: number of words; a caption is padded or cut to it.
        dim: width of a word's vector.
        spec: of the clips whose prompts it will encode; None when a data set is made.
        vocabulary: the words of the data set's captions; empty if not known. By default that of ``spec``.

    Raises:
        BadValue: a size below 1, or clips with embeddings of another kind.
    """

    name = "caption"

    def __init__(self, length: int = 16, dim: int = 32, spec: ClipSpec | None = None, vocabulary: Sequence[str] = ()):
        at_least(1, length=length, dim=dim)
        self.length = length
        self.dim = dim
        self._vectors: dict[tuple[str, object], Float[Tensor, " d"]] = {}
        self.vocabulary = tuple(vocabulary)
        if spec is not None:
            self.hold_against(spec)
            self.vocabulary = self.vocabulary or tuple(spec.text.get("vocabulary", ()))

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l d"]:
        embeddings = torch.zeros(len(prompts), self.length, self.dim)
        for row, prompt in zip(embeddings, prompts, strict=True):
            for place, word in enumerate(words_of(prompt)[: self.length]):
                row[place] = (self._vector("word", word) + self._vector("place", place)) / 2**0.5
        return embeddings

    def unknown(self, prompt: str) -> list[str]:
        known = self.vocabulary
        return [word for word in dict.fromkeys(words_of(prompt)) if known and word not in known]

    def notes(self, prompt: str) -> list[str]:
        words, notes = words_of(prompt), []
        if prompt.strip() and not words:
            notes.append("it has no word, so it counts as an empty prompt")
        if unknown := self.unknown(prompt):
            notes.append(f"no training caption has {some(unknown, NAMED_WORDS)}")
        if cut := words[self.length :]:
            notes.append(f"the model reads {self.length} words; cut: {some(cut, NAMED_WORDS, ' ')}")
        return notes

    def describe(self) -> dict[str, Any]:
        return super().describe() | ({"vocabulary": list(self.vocabulary)} if self.vocabulary else {})

    def describe_trained(self, captions: Iterable[str]) -> dict[str, Any]:
        words = {word for caption in captions for word in words_of(caption)[: self.length]}
        return self.describe() | ({"vocabulary": sorted(words)} if words else {})

    def _vector(self, kind: str, value: object) -> Float[Tensor, " d"]:
        if (kind, value) not in self._vectors:
            generator = torch.Generator().manual_seed(derived_seed("caption", kind, value))
            self._vectors[kind, value] = torch.randn(self.dim, generator=generator)
        return self._vectors[kind, value]


def words_of(prompt: str) -> list[str]:
    """The words of a prompt in lower case: ``up-left`` is one."""
    return WORD.findall(prompt.lower())
