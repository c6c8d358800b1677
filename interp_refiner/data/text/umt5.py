"""The text encoder of Wan."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import (
    BadValue,
    ClipSpec,
    MissingExtra,
    at_least,
    check_folder,
    check_not_original,
    choice,
    fetch,
    one_fault,
    unreported,
)
from interp_refiner.data.text.text_encoder import TextEncoder

Precision = Literal["float32", "bfloat16"]


@final
class UMT5Encoder(TextEncoder):
    """umT5's encoder as Wan uses it: the last hidden states, set to zero beyond the prompt, padded to ``length``.

    Args:
        folder: a pipeline's folder as diffusers saves it, with ``text_encoder/`` and ``tokenizer/``; or one on the hub,
            see :func:`fetch`.
        length: number of tokens, including the end-of-sequence token.
        precision: dtype of the weights and of the embeddings.
        device: device of the weights.
        spec: of the clips whose prompts it will encode; None when a data set is made.

    Raises:
        MissingExtra: transformers or ftfy is not installed.
        BadValue: one of the two folders is missing, its content is damaged, incomplete or of another model, or the
            clips' embeddings were made by another encoder.
    """

    name = "umt5"

    def __init__(
        self,
        folder: str,
        length: int = 512,
        precision: Precision = "bfloat16",
        device: str = "cpu",
        spec: ClipSpec | None = None,
    ):
        choice("precision", precision, get_args(Precision))
        at_least(1, length=length)
        root = fetch("folder", folder, ["text_encoder", "tokenizer"])
        check_not_original("folder", folder, root)
        for part in ("text_encoder", "tokenizer"):
            if not (root / part).is_dir():
                raise BadValue("folder", folder, "a pipeline's folder with text_encoder/ and tokenizer/ in it")
        self.length = length
        check_not_original("folder", folder, root / "text_encoder")
        allowed = "a complete umT5 encoder and its tokenizer, as transformers saves them"
        with one_fault("folder", folder, allowed), unreported("transformers"):
            loaded = _load(root, getattr(torch, precision))
        self.tokenizer, self.model, told = loaded
        check_folder("folder", folder, allowed, root / "text_encoder", told, self.model)
        if fault := tokenizer_fault(self.tokenizer, self.model.config):
            raise BadValue("folder", folder, f"{allowed}: {fault}")
        self.model.to(device).eval().requires_grad_(False)
        self.dim = self.model.config.d_model
        if spec is not None:
            self.hold_against(spec)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l d"]:
        tokens = self.tokenizer(
            [clean(prompt) for prompt in prompts],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        ).to(self.model.device)
        hidden = self.model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return hidden.masked_fill(tokens.attention_mask.unsqueeze(-1) == 0, 0.0)


def clean(prompt: str) -> str:
    """The text cleaned as for umT5's training: encoding errors repaired, HTML entities resolved, single spaces."""
    try:
        import ftfy
    except ImportError as error:
        raise MissingExtra("text=umt5", "ftfy", "wan") from error
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    try:
        from transformers import AutoTokenizer, UMT5EncoderModel
    except ImportError as error:
        raise MissingExtra("text=umt5", "transformers", "wan") from error
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    encoder: Any = UMT5EncoderModel
    loaded = encoder.from_pretrained(
        folder / "text_encoder", local_files_only=True, dtype=dtype, output_loading_info=True
    )
    return tokenizer, *loaded


def tokenizer_fault(tokenizer: Any, config: Any) -> str:
    """Why a tokenizer does not belong to a model; "" if it fits."""
    if len(tokenizer) > config.vocab_size:
        return f"the tokenizer has {len(tokenizer)} tokens, the encoder's vocabulary {config.vocab_size}"
    for name in ("pad", "eos"):
        own, wanted = getattr(tokenizer, f"{name}_token_id"), getattr(config, f"{name}_token_id")
        if own != wanted:
            return f"the tokenizer's {name} token is {own}, the encoder's {wanted}"
    if tokenizer("a").input_ids[-1:] != [config.eos_token_id]:
        return "the tokenizer does not end prompts with its eos token"
    return ""
