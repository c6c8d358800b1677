import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.data.text.umt5 import UMT5Encoder, clean


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny umT5 with random weights and a word-level tokenizer, saved as a pipeline saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    root = tmp_path_factory.mktemp("wan")
    words = ["<pad>", "</s>", "<unk>", "a", "cat", "on", "the", "roof"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(root / "tokenizer")
    config = transformers.UMT5Config(
        vocab_size=len(words), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3, pad_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    transformers.UMT5EncoderModel(config).save_pretrained(root / "text_encoder")
    return root


def test_hidden_states_up_to_the_prompts_end_and_zero_beyond(folder: Path):
    from transformers import UMT5EncoderModel

    encoder = UMT5Encoder(str(folder), length=512, precision="float32")
    embeddings = encoder.encode(["a cat", "a cat on the roof"])
    assert embeddings.shape == (2, 512, 24)
    assert (encoder.length, encoder.dim) == (512, 24)
    model = UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        expected = model(torch.tensor([[3, 4, 1]])).last_hidden_state
    torch.testing.assert_close(embeddings[:1, :3], expected, atol=1e-5, rtol=1e-4)
    assert embeddings.abs().sum(-1).bool().sum(1).tolist() == [3, 6]


def test_long_prompts_are_cut_and_precision_is_kept(folder: Path):
    embeddings = UMT5Encoder(str(folder), length=4, precision="bfloat16").encode(["a cat on the roof"])
    assert embeddings.shape == (1, 4, 24)
    assert embeddings.dtype == torch.bfloat16
    assert embeddings.abs().sum(-1).bool().all()


def test_prompts_are_cleaned():
    pytest.importorskip("ftfy")
    assert clean("  a &amp;amp; b\n\n c ") == "a & b c"


def test_a_torn_model_is_one_line(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadValue, match=r"folder=.*: expected a complete umT5 encoder") as error:
        UMT5Encoder(str(tmp_path))
    assert "\n" not in str(error.value)


ENCODER, TOKENIZER = "text_encoder/model.safetensors", "tokenizer/tokenizer.json"


def without(name: str):
    def change(folder: Path) -> None:
        weights = load_file(folder / ENCODER)
        del weights[name]
        save_file(weights, folder / ENCODER, {"format": "pt"})

    return change


def not_finite(name: str):
    def change(folder: Path) -> None:
        weights = load_file(folder / ENCODER)
        weights[name].view(-1)[0] = torch.inf
        save_file(weights, folder / ENCODER, {"format": "pt"})

    return change


def replaced(file: str, old: str, new: str):
    def change(folder: Path) -> None:
        content = (folder / file).read_text()
        assert old in content
        (folder / file).write_text(content.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("encoder.block.1.layer.0.SelfAttention.q.weight"), r"block\.1\..*\.q\.weight is missing"),
        (without("shared.weight"), r"shared\.weight.* missing"),
        (not_finite("shared.weight"), r"shared\.weight holds NaN or infinity"),
        (replaced("text_encoder/config.json", '"num_layers": 2', '"num_layers": 1'), r"block\.1\..* unknown"),
        (replaced("text_encoder/config.json", '"eos_token_id": 1', '"eos_token_id": 2'), "eos token is 1"),
        (replaced(TOKENIZER, '"SpecialToken"', '"Special"'), "."),
        (lambda folder: (folder / TOKENIZER).unlink(), "."),
        (lambda folder: (folder / "tokenizer/tokenizer_config.json").unlink(), "."),
    ],
)
def test_parts_that_are_incomplete_or_do_not_fit_are_one_line(folder: Path, tmp_path: Path, change, said: str):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    with pytest.raises(BadValue, match=rf"folder=.*: expected a complete umT5 encoder .*{said}") as error:
        UMT5Encoder(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_tokenizer_with_more_words_than_the_encoder_knows_is_refused(folder: Path, tmp_path: Path):
    from transformers import AutoTokenizer

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens(["dog"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(BadValue, match="the tokenizer has 9 tokens, the encoder's vocabulary 8"):
        UMT5Encoder(str(tmp_path))


def test_refuses_a_folder_without_its_parts(tmp_path: Path):
    with pytest.raises(BadValue, match=r"folder=.*expected a pipeline's folder with text_encoder/ and tokenizer/"):
        UMT5Encoder(str(tmp_path))
    with pytest.raises(BadValue, match="length=0: expected at least 1"):
        UMT5Encoder(str(tmp_path), length=0)


def test_names_the_extra_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"text=umt5 needs transformers.*interp_refiner\[wan\]"):
        UMT5Encoder(str(folder))
