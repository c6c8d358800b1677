"""Renders clips of photos in motion and joins them to the scenes: ``python flying.py data/city <clips>``.

Real scenes are few, so a network learns what is right on them only. Here photos and frames of the scenes are the
textures of layers that pan, zoom, turn and bend over one another, as in Flying Chairs (Dosovitskiy et al., FlowNet,
ICCV 2015). The photos are those of Debian's wallpaper packages, which ``apt-get`` and ``dpkg-deb`` fetch.
"""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from math import log, pi
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec import PICTURE_SUFFIXES, PatchDCT, decode_picture, read_video
from interp_refiner.data.shards import DatasetMetadata, Sample, write_shards
from interp_refiner.data.world.gliding import glide
from interp_refiner.data.world.scene import rotate

PACKAGES = ["gnome-backgrounds", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "mate-backgrounds"]
PACKAGES += ["plasma-workspace-wallpapers", "sway-backgrounds", "ukui-wallpapers"]
FRAMES, HEIGHT, WIDTH = 21, 48, 80
TEXTURE = (128, 192)  # height and width of a texture in pixels; it is mirrored beyond its borders
TEXTURES = 6000
PICTURE_HEIGHTS = (180, 720)  # a photo is scaled to a height between these before textures are cut out of it
SCENE_FRAMES = 12  # of every scene, from its first half: later frames show the city's held-out shot

LAYERS = 4  # at most so many over the background
RADIUS = (5.0, 40.0)  # pixels
SPEED = (0.03, 3.0)  # pixels per frame, log-uniform
CURVE = 0.2  # largest turn per frame, radians
SPIN = 0.06  # largest rotation per frame, radians
ZOOM = 0.02  # largest change per frame of the logarithm of the size
BEND = 3.0  # largest amplitude of a layer's waves, pixels
SHAKE = 0.6  # largest standard deviation of a step of the camera's shake, a random walk, pixels
NOISE = 0.02  # largest standard deviation of the noise; colours are 0 to 1
BRIGHTENING = 0.01  # largest change per frame of the brightness, relative


def fetch_photos(folder: Path) -> list[Path]:
    """The photos of :data:`PACKAGES`, fetched unless they are there."""
    if not folder.exists():
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                sys.exit(f"flying.py fetches photos with {tool}, which comes with Debian; or put photos into {folder}")
        partial = folder.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "--quiet", *PACKAGES], check=True, cwd=partial)
            for package in sorted(partial.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", package, partial], check=True)
                package.unlink()
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error.cmd[0]} failed: apt-get update may help; or put photos into {folder}")
        partial.rename(folder)
    photos = [path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(photos) or sys.exit(f"{folder} has no photos: put some into it, or remove it to fetch them")


def textures(photos: list[Path], videos: list[Path], pick: random.Random) -> UInt8[Tensor, "n 3 h w"]:
    """:data:`TEXTURES` pieces of photos at random scales, and of frames of the first half of the videos."""
    pictures = []
    for photo in photos:
        try:
            for _ in range(2):
                scale = pick.uniform(*PICTURE_HEIGHTS)
                pictures.append(decode_picture(photo, lambda rows, columns, s=scale: covering(rows, columns, s))[0][0])
        except BadValue as error:
            print(f"left out: {error}")
    for video in videos:
        frames = read_video(video, 240, 400, max_frames=450)
        pictures += [frames[len(frames) // 2 * place // SCENE_FRAMES] for place in range(SCENE_FRAMES)]
    height, width = TEXTURE
    cut = []
    for _ in range(TEXTURES):
        picture = pick.choice(pictures)
        top, left = pick.randint(0, picture.shape[0] - height), pick.randint(0, picture.shape[1] - width)
        cut.append(picture[top : top + height, left : left + width].permute(2, 0, 1))
    return torch.stack(cut)


def covering(rows: float, columns: float, height: float) -> tuple[int, int]:
    """The size of a picture scaled to a height, but at least as large as a texture."""
    scale = max(height / rows, TEXTURE[0] / rows, TEXTURE[1] / columns)
    return max(round(rows * scale), TEXTURE[0]), max(round(columns * scale), TEXTURE[1])


def render(pieces: UInt8[Tensor, "n 3 h w"], generator: Generator) -> Float[Tensor, "3 t y x"]:
    """One clip: a background and layers over it.

    Point ``p`` of frame ``t`` shows point ``R(-a_t) (p - c_t) / s_t`` of a layer, displaced by travelling waves; ``R``
    turns by the layer's angle ``a_t``, ``c_t`` is its centre, ``s_t`` its size. Layer 0, the background, covers the
    frame. The others end at a lobed outline.
    """

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    layers = 1 + int(uniform(1) * (LAYERS + 1))
    step = torch.arange(FRAMES) - FRAMES // 2
    above = (torch.arange(layers) > 0).float()[:, None]

    path = glide(uniform(layers, 6), torch.zeros(layers, FRAMES - 1), (1.0, 1.0), CURVE)
    path = path * uniform(layers, 1, 1, low=log(SPEED[0]), high=log(SPEED[1])).exp()
    path = path + above[..., None] * path[:1]  # the camera moves every layer
    path = path + torch.randn(FRAMES, 2, generator=generator).cumsum(0) * uniform(1).pow(4) * SHAKE
    centre = uniform(layers, 1, 2) * torch.tensor([WIDTH, HEIGHT]) + path - path[:, FRAMES // 2, None]
    angle = above * uniform(layers, 1, high=2 * pi) + trend(uniform(layers, 1), SPIN) * step
    size = (trend(uniform(layers, 1), ZOOM) * step).exp()

    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    offset = torch.stack([x, y], -1) - centre[:, :, None, None]
    place = rotate(offset, -angle[..., None, None]) / size[..., None, None, None]  # [layer, t, y, x, 2]
    wave = uniform(layers, 1, 1, 1, 6)
    phase = 2 * pi * (place / (20 + 60 * wave[..., 2:4]) + wave[..., 4:6])  # wavelengths of 20 to 80 pixels
    phase = phase + 0.4 * wave[..., :1] * step.view(-1, 1, 1, 1)
    place = place + trend(wave[..., 1:2], BEND) * phase.flip(-1).sin()

    height, width = pieces.shape[2:]
    chosen = pieces[(uniform(layers) * len(pieces)).long()].float() / 255
    grid = (place * 2 / torch.tensor([width, height])).flatten(1, 2)
    colour = F.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False).unflatten(2, (FRAMES, HEIGHT))

    radius = uniform(layers, 1, 1, 1, low=log(RADIUS[0]), high=log(RADIUS[1])).exp()
    around, outline = torch.atan2(place[..., 1], place[..., 0]), torch.ones(())
    for k in range(1, 6):
        amplitude, turn = uniform(layers, 1, 1, 1, high=0.4 / k), 2 * pi * uniform(layers, 1, 1, 1)
        outline = outline + amplitude * (k * around + turn).sin()
    cover = (radius * outline - place.norm(dim=-1) + 0.5).clamp(0, 1).unsqueeze(1)
    clip = colour[0]
    for over, share in zip(colour[1:], cover[1:], strict=True):
        clip = torch.lerp(clip, over, share)
    clip = clip * (1 + trend(uniform(1), BRIGHTENING) * step)[:, None, None]
    clip = clip + torch.randn(clip.shape, generator=generator) * uniform(1).pow(3) * NOISE
    return clip.clamp(0, 1)


def trend(u: Tensor, largest: float) -> Tensor:
    """From a number in 0..1 a rate in -largest..largest, mostly small: its cube."""
    return largest * (2 * u - 1).pow(3)


def samples(count: int, pieces: UInt8[Tensor, "n 3 h w"], metadata: DatasetMetadata) -> Iterator[Sample]:
    """The rendered clips, encoded with the declared statistics, without a prompt."""
    codec = PatchDCT(metadata.latents_mean, metadata.latents_std)
    assert metadata.text_shape is not None
    for number in range(count):
        video = render(pieces, torch.Generator().manual_seed(number))
        yield Sample(f"flying-{number:06d}", codec.encode(video[None])[0], torch.zeros(metadata.text_shape))


def main(folder: Path, clips: int) -> None:
    """Writes ``<folder>/flying``: train/ has the clips of ``<folder>/scenes`` and the rendered ones, val/ is theirs."""
    scenes, pick = folder / "scenes/train", random.Random(0)
    if not (scenes / "dataset.json").exists():
        sys.exit(f"{scenes} is missing: python experiments/city/scenes.py {folder} first")
    if (folder / "flying").exists():
        sys.exit(f"{folder / 'flying'} exists: remove it to make it again")
    pieces = textures(fetch_photos(folder / "photos"), sorted((folder / "scene_videos").iterdir()), pick)
    metadata = DatasetMetadata.load(scenes)
    train = write_shards(folder / "flying/train", samples(clips, pieces, metadata), metadata)
    for number, shard in enumerate(sorted(scenes.glob("shard-*.tar")), len(list(train.glob("shard-*.tar")))):
        shutil.copy(shard, train / f"shard-{number:05}.tar")
    replace(metadata, num_samples=clips + (metadata.num_samples or 0)).save(train)
    shutil.copytree(folder / "scenes/val", folder / "flying/val")


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal() or int(sys.argv[2]) == 0:
        sys.exit("usage: python flying.py <folder> <number of rendered clips>, after scenes.py <folder>")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
