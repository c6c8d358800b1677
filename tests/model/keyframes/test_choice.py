"""The best of several samples of keyframes."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue, Draws
from interp_refiner.model.keyframes import BestOf, Choice
from interp_refiner.model.keyframes.choice import pictures_of
from tests.model.keyframes.test_generated import GIVEN, KEYS, request, source

DRAWS = Draws(0, "sample", KEYS)
PROMPTS = ["bright", "dark", "grey"]


class Brightness:
    """Bright pictures match "bright" and no prompt, dark ones "dark", and all match anything else alike."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pictures, prompts):
        self.calls += 1
        sign = torch.tensor([{"bright": 1.0, "": 1.0, "dark": -1.0}.get(prompt, 0.0) for prompt in prompts])
        return sign * pictures.flatten(1).mean(1)


def pictures(latents):
    return latents[:, :3]


def asked(**changes):
    return replace(request(GIVEN), **{"prompts": PROMPTS, **changes})


def candidates(made, count, of):
    """What the source makes with the draws of every candidate."""
    streams = ["sample", *(f"sample_candidate_{number}" for number in range(2, count + 1))]
    return torch.stack([made(of, replace(DRAWS, stream=stream)) for stream in streams])


def test_every_clip_gets_its_best_candidate_and_the_first_on_a_tie(caplog):
    made, of = source(), asked()
    all_made = candidates(made, 5, of)
    level = pictures(all_made.flatten(0, 1)).flatten(1).mean(1).unflatten(0, (5, 3))
    assert level.unique().numel() == 15
    best = [int(level[:, 0].argmax()), int(level[:, 1].argmin()), 0]
    found = Choice(Brightness(), 5).among(made, pictures)(of, DRAWS)
    assert torch.equal(found, torch.stack([all_made[number, row] for row, number in enumerate(best)]))
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == "1 of 3 prompts: all samples have the same score, so the first is kept"


def test_the_result_depends_on_no_batch_and_keeps_given_keyframes():
    chosen, of = Choice(Brightness(), 3).among(source(), pictures), asked()
    together = chosen(of, DRAWS)
    for row, key in enumerate(KEYS):
        names = ("positions", "latents", "given", "text", "prompts")
        alone = replace(of, **{name: getattr(of, name)[row : row + 1] for name in names})
        torch.testing.assert_close(chosen(alone, replace(DRAWS, keys=[key])), together[row : row + 1])
    given = of.given[:, None, :, None, None].expand_as(together)
    assert torch.equal(together[given], of.latents[given])


@pytest.mark.parametrize("prompts", [None, ["", "", ""]])
def test_without_words_the_first_candidate_is_the_only_one(prompts):
    scorer, made = Brightness(), source()
    found = Choice(scorer, 4).among(made, pictures)(asked(prompts=prompts), DRAWS)
    assert torch.equal(found, made(asked(), DRAWS))
    assert scorer.calls == 0


def test_a_clip_without_words_gets_its_first_candidate_beside_others():
    made, of = source(), asked(prompts=["", "bright", ""])
    found = Choice(Brightness(), 5).among(made, pictures)(of, DRAWS)
    first = made(of, DRAWS)
    assert torch.equal(found[[0, 2]], first[[0, 2]])
    assert not torch.equal(found[1], first[1])


def test_only_the_keyframes_that_the_prompts_are_about_are_scored():
    seen = []

    def scorer(shown, prompts):
        seen.append(shown)
        return torch.zeros(len(prompts))

    about = torch.tensor([[False, True, True]]).expand(3, -1)
    found = Choice(scorer, 2).among(source(), pictures)(asked(about=about), DRAWS)
    assert len(seen) == 2
    assert torch.equal(seen[0], pictures(found)[:, :, 1:])


def test_a_score_that_is_no_number_loses():
    scores = iter([torch.full((3,), torch.nan), torch.tensor([-5.0, torch.nan, -7.0])])
    made, of = source(), asked()
    found = Choice(lambda shown, prompts: next(scores), 2).among(made, pictures)(of, DRAWS)
    both = candidates(made, 2, of)
    assert torch.equal(found, torch.stack([both[1, 0], both[0, 1], both[1, 2]]))


@pytest.mark.parametrize("shape", [(), (3, 1), (2,)])
def test_scores_of_another_shape_are_refused(shape):
    chosen = Choice(lambda shown, prompts: torch.zeros(shape), 2).among(source(), pictures)
    with pytest.raises(BadValue, match=r"scorer=\[.*\]: expected scores of shape \[3\], one per clip"):
        chosen(asked(), DRAWS)


def test_one_candidate_is_the_source_itself():
    made = source()
    assert Choice().among(made, pictures) is made
    assert Choice(Brightness(), 1).among(made, pictures) is made


def test_the_cost_grows_with_the_candidates():
    made = source()
    chosen = Choice(Brightness(), 4).among(made, pictures)
    assert isinstance(chosen, BestOf)
    assert chosen.evaluations(2) == 4 * made.evaluations(2)
    assert chosen.of_steps(7).evaluations(2) == 4 * made.of_steps(7).evaluations(2)
    assert (chosen.takes_given, chosen.guided) == (made.takes_given, made.guided)
    assert repr(chosen) == f"best of 4 by {chosen.choice.scorer!r}: {made!r}"


@pytest.mark.parametrize(
    ("scorer", "count", "said"), [(Brightness(), 0, "at least 1"), (None, 2, "1 without a scorer")]
)
def test_counts_that_make_no_sense_are_refused(scorer, count, said):
    with pytest.raises(BadValue, match=f"candidates={count}: expected {said}"):
        Choice(scorer, count)


def test_every_keyframe_becomes_one_picture():
    """Decoded by itself: a causal decoder would take keyframes for neighbours."""
    torch.manual_seed(0)

    def causal(latents):  # one frame for the first latent frame, four for each later one
        frames = torch.cat([latents[:, :3, :1], latents[:, :3, 1:].repeat_interleave(4, 2)], 2)
        return frames.cumsum(2)

    latents = torch.randn(2, 4, 5, 3, 3)
    assert torch.equal(pictures_of(causal, latents), latents[:, :3])
