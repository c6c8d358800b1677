import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.text import CaptionEncoder
from tests import clean_processes


def test_zero_beyond_the_prompt_and_nowhere_before():
    embeddings = CaptionEncoder(length=8, dim=32).encode(["bright circle", "", "a dark square moving up-left"])
    assert embeddings.shape == (3, 8, 32)
    assert embeddings.abs().sum(-1).bool().sum(1).tolist() == [2, 0, 5]
    assert (embeddings[0, 2:] == 0).all()


def test_unit_variance():
    words = " ".join(f"word{i}" for i in range(64))
    embeddings = CaptionEncoder(length=64, dim=64).encode([words])
    assert abs(embeddings.mean()) < 0.1
    assert abs(embeddings.std() - 1) < 0.1


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_a_prompts_embedding_depends_on_nothing_else(prompts: list[str]):
    together = CaptionEncoder().encode(prompts)
    alone = torch.cat([CaptionEncoder().encode([prompt]) for prompt in prompts])
    assert torch.equal(together, alone)


def test_words_and_places_matter_case_and_punctuation_do_not():
    encoder = CaptionEncoder()
    one, two, three = encoder.encode(["dark circle", "circle dark", "Dark, circle."])
    assert torch.equal(one, three)
    assert (one[0] - two[0]).abs().max() > 0.1
    assert (one[0] - two[1]).abs().max() > 0.1  # the same word at another place


def test_long_prompts_are_cut():
    encoder = CaptionEncoder(length=3)
    assert torch.equal(*encoder.encode(["a b c", "a b c d e"]))


def test_unknown_words_cut_words_and_prompts_without_words_are_noted():
    encoder = CaptionEncoder(length=5, vocabulary=["dark", "ring", "moving", "left"])
    assert encoder.notes("Dark ring, moving left") == encoder.notes("") == encoder.notes(" ") == []
    assert CaptionEncoder().notes("any word") == []  # no vocabulary is declared
    assert encoder.notes("a dark dog moving left a ring 14") == [
        "no training caption has a, dog, 14",
        "the model reads 5 words; cut: a ring 14",
    ]
    assert encoder.notes("dark " * 17)[-1] == "the model reads 5 words; cut: " + "dark " * 10 + "and 2 more"
    assert encoder.notes("?!") == ["it has no word, so it counts as an empty prompt"]


def test_the_vocabulary_is_declared_with_the_clips():
    described = CaptionEncoder(6, 12, vocabulary=["dark"]).describe()
    assert CaptionEncoder(6, 12, ClipSpec((4, 5, 4, 6), (6, 12), text=described)).vocabulary == ("dark",)
    assert "vocabulary" not in CaptionEncoder().describe() | CaptionEncoder().describe_trained([""])
    assert CaptionEncoder(2).describe_trained(["Dark ring, left", "a"])["vocabulary"] == ["a", "dark", "ring"]


@pytest.mark.xdist_group("processes")  # one worker has their server
def test_the_same_in_another_process(tmp_path):
    """Whose hashes of strings are others."""

    def work():
        torch.save(CaptionEncoder().encode(["pale ring"]), tmp_path / "there.pt")

    process = clean_processes.start(work)
    process.join(60)
    assert torch.equal(torch.load(tmp_path / "there.pt"), CaptionEncoder().encode(["pale ring"]))


@pytest.mark.parametrize("name", ["length", "dim"])
def test_refuses_an_empty_shape(name: str):
    with pytest.raises(BadValue, match=f"{name}=0: expected at least 1"):
        CaptionEncoder(**{name: 0})
