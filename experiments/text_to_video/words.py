"""What a word of a caption is worth to generators: ``python experiments/text_to_video/words.py <generator> [...]``.

The loss of held-out clips under their own captions and under captions with other words of one kind: the first word of the
kind becomes its opposite, the second one too, and so on. What a generator does not read costs nothing when it is wrong.
"""

import sys
from pathlib import Path

import torch

from interp_refiner import load_run
from interp_refiner.core import Draws
from interp_refiner.data.text import CaptionEncoder
from interp_refiner.data.text.caption import WORD
from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES
from interp_refiner.model.keyframes import Keyframes
from interp_refiner.training.keyframe_generator import keyframes_of

KINDS = {"brightness": BRIGHTNESS, "shape": SHAPES, "direction": DIRECTIONS}
TIMES = (0.4, 0.6, 0.75, 0.85, 0.95)  # of the flow
COUNT = 5


def captions_of(text: torch.Tensor, encoder: CaptionEncoder) -> list[str]:
    """Reads captions off their embeddings: the word whose vector is nearest in every place."""
    words = [*BRIGHTNESS, *SHAPES, *DIRECTIONS, "moving", "and"]
    captions = []
    for row in text:
        found = []
        for place, vector in enumerate(row):
            if vector.any():
                choices = encoder.encode([" ".join(["x"] * place + [word]) for word in words])[:, place]
                found.append(words[int((choices - vector).square().sum(1).argmin())])
        captions.append(" ".join(found))
    return captions


def turned(caption: str, kind: tuple[str, ...]) -> str:
    """The caption with the opposite of every word of a kind."""
    return " ".join(
        kind[(kind.index(word) + len(kind) // 2) % len(kind)] if word in kind else word for word in WORD.findall(caption)
    )


@torch.no_grad()
def losses(path: str) -> dict[str, list[float]]:
    """The mean loss by flow time, under right captions and under others."""
    run = load_run(path)
    module, loader = run.generator, run.data.validating(samples=None).val_dataloader()
    encoder = CaptionEncoder()
    sums: dict[str, list[float]] = {}
    clips = 0
    for batch in loader:
        corrupted = run.data.on_after_batch_transfer(batch, 0)
        level = torch.full_like(corrupted.level, module.corruption.schedule.counts_for(21).index(COUNT))
        of = keyframes_of(corrupted, corrupted.plan.mask_at(level), COUNT)
        captions = captions_of(of.text, encoder)
        texts = {"right": captions}
        texts |= {kind: [turned(caption, words) for caption in captions] for kind, words in KINDS.items()}
        embedded = {name: encoder.encode(text) for name, text in texts.items()}
        assert torch.allclose(embedded["right"], of.text, atol=2e-2)  # stored in half precision
        embedded["none"] = torch.zeros_like(of.text)
        clips += len(captions)
        noise = Draws(0, "words", corrupted.clip.keys).normal("flow_noise", of.latents)
        for name, text in embedded.items():
            some = Keyframes(of.latents, of.positions, text)
            for index, time in enumerate(TIMES):
                u = torch.full(of.positions.shape, time)
                velocity = module.flow.velocity(module.backbone, module.flow.state(of.latents, noise, u), u, some)
                error = (velocity - (noise - module.flow._weighted(of.latents))).square().mean((1, 2, 3, 4)).sum()
                sums.setdefault(name, [0.0] * len(TIMES))[index] += float(error)
    return {name: [value / clips for value in values] for name, values in sums.items()}


def main() -> None:
    print("| | loss under the right caption, at u = " + ", ".join(map(str, TIMES)) + " | mean |", "|---|---|---|", sep="\n")
    for path in sys.argv[1:]:
        found = losses(path)
        for name, values in found.items():
            shown = values if name == "right" else [a - b for a, b in zip(values, found["right"], strict=True)]
            print(f"| {Path(path).name}, {name} | {', '.join(f'{v:.4f}' for v in shown)} | {sum(shown) / len(shown):.4f} |")


if __name__ == "__main__":
    main()
