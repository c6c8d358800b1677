"""Trains the reader that chooses among samples of keyframes: ``python experiments/text_to_video/reader.py <file>``.

Its clips and its initial weights differ from those of the probe that judges generators (``KeyframeQuality``), so a
sample that pleases the reader need not please the judge. About 8 minutes on one core.
"""

import sys

import torch

from interp_refiner.config import build
from interp_refiner.data.world import Scene, render
from interp_refiner.data.world.reader import measure_traits, train_reader
from interp_refiner.data.world.scorer import save_reader
from interp_refiner.evaluation.run.notebook import config
from interp_refiner.forward.schedule.uniform import evenly_spaced

STEPS, BATCH, KEYFRAMES, SEED = 900, 32, 5, 1
MEASURED = 16  # further batches, from which the traits of real clips are measured


def main(path: str) -> None:
    """Writes the reader's weights."""
    world = build(config("+experiment=keyframes", "data=many_shapes").data.writer)
    codec, frames = world.codec, evenly_spaced(world.size[0], KEYFRAMES)

    def new_clips(step: int) -> tuple[Scene, list[str], torch.Tensor]:
        scene = world.scenes("reader", [f"reader-{step}-{number}" for number in range(BATCH)])
        return scene, world.world.captions(scene), codec.decode(codec.encode(render(scene)[:, :, frames]))

    reader = train_reader(new_clips, frames, STEPS, seed=SEED, net=world.world.captions.net)
    _, captions, pictures = zip(*map(new_clips, range(STEPS, STEPS + MEASURED)), strict=True)
    measure_traits(reader, torch.cat(pictures), [caption for batch in captions for caption in batch])
    save_reader(reader, path)


if __name__ == "__main__":
    main(sys.argv[1])
