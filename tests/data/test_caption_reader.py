"""Reads captions from keyframes: directions of known places, prompts, and the weights in the package."""

import pytest
import torch
from safetensors.torch import save_file

from interp_refiner.core import BadValue
from interp_refiner.data.moving_shapes import MovingShapes
from interp_refiner.data.world import BRIGHTNESS, DIRECTIONS, SHAPES, CaptionScorer, Gliding, render
from interp_refiner.data.world.captions import NetDirection
from interp_refiner.data.world.reader import UNKNOWN, CaptionReader, Said, _centre
from interp_refiner.data.world.scorer import load_reader, save_reader
from interp_refiner.forward.schedule.uniform import evenly_spaced

OPPOSITE = {word: DIRECTIONS[(index + 4) % 8] for index, word in enumerate(DIRECTIONS)}
PLACES = {1: (5, 2), 2: (5, 4), 3: (1, 4)}  # y and x of the object in keyframes 1 to 3; it is not in keyframes 0 and 4


@pytest.mark.parametrize(("net", "direction"), [(False, "right"), (True, "up-right")])
def test_the_direction_is_that_of_the_first_gap_or_of_the_whole_path(net: bool, direction: str):
    torch.manual_seed(0)
    places = -12 + torch.randn(1, 4, 5, 8, 8)
    for frame, (y, x) in PLACES.items():
        places[0, 2, frame, y, x] = 12.0
    seen = places.flatten(3).amax(3).sigmoid()
    logits = CaptionReader(net=net)._direction(_centre(places), seen)[0, 2]
    assert DIRECTIONS[int(logits.argmax())] == direction
    assert logits.max() > 2.5  # the sharpness is 3


def test_prompts_in_other_words_are_read_as_far_as_they_go():
    said = Said.by(
        [
            "A Bright ring, moving slowly up, a dark SQUARE and two moving left",
            "pale thing",
            "circle moving left",
            "two birds",
        ]
    )
    named = {(row, BRIGHTNESS[k]) for row, k in said.present.nonzero().tolist()}
    assert named == {(0, "bright"), (0, "dark"), (1, "pale")}
    bright, dark = (BRIGHTNESS.index(word) for word in ("bright", "dark"))
    assert SHAPES[said.shape[0, bright]] == "ring"
    assert DIRECTIONS[said.direction[0, bright]] == "up"
    assert SHAPES[said.shape[0, dark]] == "square"
    assert said.direction[0, dark] == UNKNOWN
    assert (said.shape[1:] == UNKNOWN).all()


@pytest.fixture(scope="module")
def clips():
    """Keyframes of new clips, with their captions."""
    world = MovingShapes(num_train=1, num_val=1, world=Gliding(captions=NetDirection()))
    scene = world.scenes("test", [f"test-{number}" for number in range(48)])
    return world, render(scene)[:, :, evenly_spaced(world.size[0], 5)], world.world.captions(scene)


def test_the_shipped_reader_prefers_the_right_caption(clips):
    world, pictures, captions = clips
    coded, scorer = world.codec.decode(world.codec.encode(pictures)), CaptionScorer()
    own = scorer(coded, captions)
    assert (own > scorer(coded, [*captions[1:], captions[0]])).float().mean() > 0.9
    opposite = [" ".join(OPPOSITE.get(word, word) for word in caption.split()) for caption in captions]
    alone = (Said.by(captions).direction != UNKNOWN).any(1)
    assert (own > scorer(coded, opposite))[alone].float().mean() > 0.85


def test_a_prompt_that_names_no_brightness_prefers_nothing(clips):
    _, pictures, _ = clips
    scores = CaptionScorer()(pictures, ["a red car and a ring"] * len(pictures))
    assert torch.equal(scores, torch.zeros(len(pictures)))


def test_objects_that_jump_are_odd(clips):
    """The likelihood is that of the caption; the oddity says that the frames do not follow each other."""
    world, pictures, captions = clips
    coded = world.codec.decode(world.codec.encode(pictures))
    reader, said = CaptionScorer().reader, Said.by(captions)
    alone = (said.shape != UNKNOWN).any(1)
    torn = coded[:, :, [0, 4, 1, 3, 2]]
    usual, odd = (reader(frames).oddity(said)[alone] for frames in (coded, torn))
    assert usual.median() < 1
    assert odd.median() > 3 * usual.median() + 1
    assert torch.equal(CaptionScorer(oddity=0.0)(coded, captions), reader(coded).log_likelihood(said))
    mild, strong = (CaptionScorer(oddity=weight)(torn, captions) for weight in (0.2, 1.0))
    torch.testing.assert_close(mild - strong, 0.8 * reader(torn).oddity(said))


def test_what_was_not_measured_is_not_odd():
    torch.manual_seed(0)
    read = CaptionReader()(torch.rand(2, 3, 5, 16, 16))
    assert torch.equal(read.oddity(Said.by(["bright circle", "dark ring"])), torch.zeros(2))


def test_a_negative_weight_is_refused():
    with pytest.raises(BadValue, match=r"oddity=-1\.0: expected a finite number >= 0"):
        CaptionScorer(oddity=-1.0)


def test_a_reader_is_stored_with_how_it_reads_directions(tmp_path):
    torch.manual_seed(0)
    for net in (False, True):
        save_reader(made := CaptionReader(net=net), tmp_path / "reader.safetensors")
        again = load_reader(str(tmp_path / "reader.safetensors"))
        assert bool(again.net) is net
        assert all(torch.equal(again.state_dict()[name], value) for name, value in made.state_dict().items())


@pytest.mark.parametrize("content", [None, b"", "foreign"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file({"something": torch.ones(2)}, path)
    with pytest.raises(BadValue, match=r"^weights=.*weights.safetensors: expected a "):
        CaptionScorer(str(path))


def test_a_misspelt_name_is_suggested():
    with pytest.raises(BadValue, match=r"weights=shiped: expected .*; did you mean 'shipped'"):
        CaptionScorer("shiped")
