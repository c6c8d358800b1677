"""How much a generator uses a caption's words: ``python experiments/text_to_video/words.py <generator> [...]``.

Prints how much the loss of held-out clips grows if all words of one kind (brightness, shape, direction) are replaced by
their opposites, and if there is no caption at all. A generator that ignores these words loses nothing. There are two
cases: no keyframe is given, or the first one is.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from interp_refiner import load_run
from interp_refiner.core import Draws
from interp_refiner.data.text import CaptionEncoder
from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES
from interp_refiner.model.keyframes import Keyframes
from interp_refiner.training.keyframe_generator import keyframes_of

KINDS = {"brightness": BRIGHTNESS, "shape": SHAPES, "direction": DIRECTIONS}
TIMES = (0.4, 0.6, 0.75, 0.85, 0.95)  # of the flow
COUNT = 5  # keyframes


def opposite(caption: str, words: tuple[str, ...]) -> str:
    """The caption with the opposite of every one of ``words``."""
    half = len(words) // 2
    return " ".join(
        words[(words.index(word) + half) % len(words)] if word in words else word for word in caption.split()
    )


@torch.no_grad()
def losses(path: str, given_first: bool) -> dict[str, Tensor]:
    """The mean loss at every flow time, by what was done to the captions."""
    run, encoder, clips = load_run(path), CaptionEncoder(), 0
    flow, sums = run.generator.flow, {}
    for batch in run.data.validating(samples=None).val_dataloader():
        corrupted = run.data.on_after_batch_transfer(batch, 0)
        level = run.generator.corruption.schedule.counts_for(corrupted.clip.num_frames).index(COUNT)
        of = keyframes_of(corrupted, corrupted.plan.mask_at(torch.full_like(corrupted.level, level)), COUNT)
        captions = corrupted.clip.prompts
        texts = {"right": encoder.encode(captions), "none": torch.zeros_like(of.text)}
        texts |= {kind: encoder.encode([opposite(c, words) for c in captions]) for kind, words in KINDS.items()}
        noise = Draws(0, "words", corrupted.clip.keys).normal("flow_noise", of.latents)
        given = torch.arange(COUNT).expand(len(captions), -1) < int(given_first)
        ends = [flow.state(of.latents, noise, torch.full(of.positions.shape, u)) for u in (0.0, 1.0)]
        for name, text in texts.items():
            found = []
            for time in TIMES:
                u = torch.full(of.positions.shape, time).masked_fill(given, 0.0)
                shown = Keyframes(of.latents, of.positions, text)
                velocity = flow.velocity(run.generator.backbone, flow.state(of.latents, noise, u), u, shown)
                error = (velocity - (ends[1] - ends[0])).square().mean((1, 3, 4))
                found.append(error[~given].sum() / (COUNT - int(given_first)))
            sums[name] = sums.get(name, 0) + torch.stack(found)
        clips += len(captions)
    return {name: value / clips for name, value in sums.items()}


def main() -> None:
    """Prints a table."""
    print("| generator | given | caption | " + " | ".join(f"u = {u}" for u in TIMES) + " | mean |")
    print("|---" * (4 + len(TIMES)) + "|")
    for path in sys.argv[1:]:
        for given_first in (False, True):
            found = losses(path, given_first)
            for name, loss in found.items():
                shown = loss if name == "right" else loss - found["right"]
                cells = [f"{value:.4f}" for value in [*shown, shown.mean()]]
                first = [Path(path).name, "the first" if given_first else "none", name]
                print("| " + " | ".join([*first, *cells]) + " |")


if __name__ == "__main__":
    main()
