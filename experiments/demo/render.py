"""Renders the keyframes of the committed storyboards: ``python experiments/demo/render.py``.

They come from the moving-shapes renderer with a separate random stream, so no training or validation clip shows them.
"""

from pathlib import Path

from PIL import Image

from interp_refiner.core import Draws
from interp_refiner.data.codec import as_frames
from interp_refiner.data.world import Gliding, render

HERE = Path(__file__).parent
HEIGHT, WIDTH = 32, 56
BOARDS = {"short": (21, 5, "scene-0"), "long": (41, 5, "scene-10")}  # frames, distance of keyframes, key of the scene


def main() -> None:
    """Writes ``<board>/<frame>.png`` and prints the scene's caption."""
    world = Gliding()
    for board, (num_frames, step, key) in BOARDS.items():
        scene = world.draw(Draws(0, "demo", [key]), num_frames, HEIGHT, WIDTH)
        frames = as_frames(render(scene)[0]).numpy()
        (HERE / board).mkdir(exist_ok=True)
        for number in range(0, num_frames, step):
            Image.fromarray(frames[number]).save(HERE / board / f"{number:02d}.png")
        print(f"{board}: {world.captions(scene)[0]}")


if __name__ == "__main__":
    main()
