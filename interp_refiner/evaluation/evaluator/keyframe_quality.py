"""Checks whether generated keyframes match their captions, belong to one clip, and are not copies."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from interp_refiner.config import build, run_metadata
from interp_refiner.core import BadValue, Draws, Measure, at_least
from interp_refiner.data.codec import Codec, contact_sheet, stacked
from interp_refiner.data.moving_shapes import MovingShapes
from interp_refiner.data.world import Scene, render
from interp_refiner.data.world.reader import UNKNOWN, CaptionReader, Said, train_reader
from interp_refiner.data.world.scorer import load_reader, save_reader
from interp_refiner.evaluation.measures import RandomConvFeatures
from interp_refiner.evaluation.measures.frechet import frechet_distance
from interp_refiner.evaluation.records.markdown import figure_table
from interp_refiner.evaluation.run.run import Run
from interp_refiner.forward.schedule.uniform import evenly_spaced
from interp_refiner.model.keyframes import KeyframeRequest, KeyframeSource

Pictures = Float[Tensor, "b 3 k h w"]
PROBE_BATCH = 32
FEWEST = 4  # keyframes; the Frechet features halve the time axis and then need two frames
SHOWN = 8  # clips in the picture
TRUE, MIXED, MADE = "real", "mixed clips", "generated"
MEASURES = (
    Measure("own_caption", "log P(caption)", "higher", digits=2),
    Measure("other_caption", "of another's", digits=2),
    Measure("brightness", "brightness right", "higher", percent=True),
    Measure("no_other_brightness", "no other brightness", "higher", percent=True),
    Measure("shape", "shape right", "higher", percent=True),
    Measure("direction_within_one", "direction within 1 of 8", "higher", percent=True),
    Measure("background_within_between", "background within / between"),
    Measure("frechet", "Frechet", digits=2),
    Measure("nearest_5th_percentile", "nearest training clip, 5%", "higher", digits=2),
)


@dataclass(frozen=True)
class HeldOut:
    """Held-out clips of an embedded world, with their keyframes.

    Attributes:
        keys, captions: of the clips.
        frames: the frame numbers of the keyframes.
        pictures: the keyframes after encoding and decoding.
        training: the same frames of training clips.
    """

    keys: list[str]
    captions: list[str]
    frames: list[int]
    pictures: Pictures
    training: Pictures


class KeyframeQuality:
    """Evaluates a keyframe source on the held-out captions of an embedded world (docs/method.md, Quality).

    Every figure is also given for the real clips of the captions (best case) and for clips mixed from frames of
    different clips (worst case).

    Args:
        world: renders clips and writes their captions.
        codec: of the latents that the source makes.
        clips: held-out captions.
        training_clips: number of training clips searched for nearest neighbours.
        keyframes: K, evenly spaced.
        probe_steps: number of training steps of the probe, a :class:`CaptionReader`; each step has 32 new clips.
        batch_size: captions at a time.

    Raises:
        BadValue: fewer than 4 keyframes, or more than a clip has; fewer than 8 clips of a kind; no steps or batches.
    """

    def __init__(
        self,
        world: MovingShapes,
        codec: Codec,
        clips: int = 256,
        training_clips: int = 2000,
        keyframes: int = 5,
        probe_steps: int = 700,
        batch_size: int = 64,
    ):
        if not FEWEST <= keyframes <= world.size[0]:
            raise BadValue("keyframes", keyframes, f"a number of keyframes from {FEWEST} to {world.size[0]}")
        at_least(8, clips=clips, training_clips=training_clips)
        at_least(1, probe_steps=probe_steps, batch_size=batch_size)
        self.world, self.codec, self.batch_size = world, codec, batch_size
        self.frames, self.probe_steps = evenly_spaced(world.size[0], keyframes), probe_steps
        self.counts = {"val": clips, "train": training_clips}

    def held_out(self) -> HeldOut:
        """The clips of the evaluation."""
        found: dict[str, tuple[list[str], list[str], list[Tensor]]] = {name: ([], [], []) for name in self.counts}
        for split, count in self.counts.items():
            for keys, captions, video in self.world.clips(split, count):
                found[split][0].extend(keys)
                found[split][1].extend(captions)
                found[split][2].append(self.coded(video[:, :, self.frames]))
        keys, captions, pictures = found["val"]
        return HeldOut(keys, captions, self.frames, torch.cat(pictures), torch.cat(found["train"][2]))

    def coded(self, video: Pictures) -> Pictures:
        """Pictures after encoding and decoding, so the codec's loss affects all methods alike."""
        return self.codec.decode(self.codec.encode(video))

    def probe(self, file: Path) -> CaptionReader:
        """The probe, loaded from a file if it was trained before."""
        if file.is_file():
            return load_reader(str(file))
        probe = train_reader(self._new_clips, self.frames, self.probe_steps, net=self.world.world.captions.net)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_reader(probe, file)
        return probe

    def _new_clips(self, step: int) -> tuple[Scene, list[str], Pictures]:
        keys = [f"probe-{step}-{number}" for number in range(PROBE_BATCH)]
        scene = self.world.scenes("probe", keys)
        return scene, self.world.world.captions(scene), self.coded(render(scene)[:, :, self.frames])

    @torch.no_grad()
    def made(self, source: KeyframeSource, held_out: HeldOut, seed: int = 0) -> Pictures:
        """The keyframes that a source generates from the captions."""
        parts = []
        for start in tqdm(range(0, len(held_out.keys), self.batch_size), desc="captions", unit="batch"):
            keys = held_out.keys[start : start + self.batch_size]
            captions = held_out.captions[start : start + self.batch_size]
            text = self.world.text.encode(captions)
            positions = torch.tensor(self.frames).expand(len(keys), -1)
            channels, _, *space = self.world.latent_shape
            empty = torch.zeros(len(keys), channels, len(self.frames), *space)
            none = torch.zeros_like(positions, dtype=torch.bool)
            request = KeyframeRequest(positions, self.world.size[0], empty, none, text, prompts=captions)
            parts.append(self.codec.decode(source(request, Draws(seed, "sample", keys))))
        return torch.cat(parts)

    def evaluate(self, run: Run, source: KeyframeSource, cache: Path, folder: Path, seed: int = 0) -> str:
        """Writes ``keyframes.json``, ``keyframes.md`` and ``keyframes.png`` of a generator.

        Args:
            run: the run that trained it.
            source: its samples.
            cache: folder that keeps the probe.
            folder: folder for the files.
            seed: of the keyframes.

        Returns:
            The table.
        """
        probe = self.probe(cache / f"{self.world.fingerprint}_{self.probe_steps}_{len(self.frames)}.safetensors")
        held_out = self.held_out()
        made = self.made(source, held_out, seed)
        result = self.judge(made, held_out, probe)
        about = {"source": repr(source), "checkpoint": str(run.checkpoint)}
        (folder / "keyframes.json").write_text(json.dumps({**result, **about, **run_metadata()}, indent=1) + "\n")
        (folder / "keyframes.md").write_text(quality_table(result))
        sheet(held_out, made).save(folder / "keyframes.png")
        return quality_table(result)

    def judge(self, made: Pictures, held_out: HeldOut, probe: CaptionReader) -> dict[str, Any]:
        """One row of measurements each for real, mixed and generated keyframes."""
        versions = {TRUE: held_out.pictures, MIXED: mixed(held_out.pictures), MADE: made}
        to_training = partial(frechet, held_out.training)
        near = {name: nearest(pictures, held_out.training) for name, pictures in versions.items()}
        rows = {}
        for name, pictures in versions.items():
            rows[name] = {
                **read_by(probe, pictures, held_out.captions),
                "background_within_between": background(pictures),
                "frechet": to_training(pictures),
                "nearest_5th_percentile": near[name].quantile(0.05).item() / near[TRUE].quantile(0.05).item(),
            }
        real, own = rows[TRUE], rows[MADE]
        gap = {name: row["own_caption"] - row["other_caption"] for name, row in rows.items()}
        return {
            "keyframes": len(held_out.frames),
            "clips": len(held_out.keys),
            "rows": rows,
            "caption_gap_of_real": gap[MADE] / gap[TRUE],
            "frechet_of_mixed": (own["frechet"] - real["frechet"]) / (rows[MIXED]["frechet"] - real["frechet"]),
        }


def read_by(probe: CaptionReader, pictures: Pictures, captions: Sequence[str]) -> dict[str, float]:
    """The probe's results: log-likelihoods of captions, and how often the named objects are found."""
    read = probe(pictures)
    said, others = Said.by(captions), Said.by([*captions[1:], captions[0]])
    single = said.shape != UNKNOWN
    turned = (read.direction.argmax(2) - said.direction)[single] % 8
    return {
        "own_caption": read.log_likelihood(said).mean().item(),
        "other_caption": read.log_likelihood(others).mean().item(),
        "brightness": (read.present > 0)[said.present].float().mean().item(),
        "no_other_brightness": (read.present <= 0)[~said.present].float().mean().item(),
        "shape": (read.shape.argmax(2) == said.shape)[single].float().mean().item(),
        "direction_within_one": ((turned <= 1) | (turned == 7)).float().mean().item(),
    }


def mixed(pictures: Pictures) -> Pictures:
    """Mixed clips, in which every keyframe comes from a different clip."""
    return torch.stack([frame.roll(number, 0) for number, frame in enumerate(pictures.unbind(2))], 2)


def background(pictures: Pictures) -> float:
    """Variance of the background's colour over the frames of a clip, relative to its variance over clips.

    The colour is the median over pixels. 0: one background per clip; near 1: a different one in every frame.
    """
    colour = pictures.flatten(3).median(3).values  # [b, 3, k]
    return (colour.var(2).mean() / colour.mean(2).var(0).mean()).item()


def frechet(reference: Pictures, pictures: Pictures) -> float:
    """Frechet distance of clip features, averaged over windows in time; see :class:`RandomConvFeatures`."""
    features = RandomConvFeatures(reference.shape[1], num_windows=1)

    def gaussian(clips: Pictures) -> tuple[Tensor, Tensor]:
        found = torch.cat([features(some) for some in clips.split(64)]).squeeze(1).double()
        return found.mean(0), found.T.cov()

    (mean, covariance), (own_mean, own_covariance) = gaussian(reference), gaussian(pictures)
    scale = covariance.diagonal().sqrt().clamp(min=1e-9)
    outer = scale.outer(scale)
    return frechet_distance(mean / scale, covariance / outer, own_mean / scale, own_covariance / outer).item()


def nearest(pictures: Pictures, training: Pictures) -> Float[Tensor, " b"]:
    """The RMS distance in pixels of every clip's keyframes to those of the nearest training clip."""
    own, others = pictures.flatten(1), training.flatten(1)
    return torch.cat([torch.cdist(some, others).amin(1) for some in own.split(64)]) / own.shape[1] ** 0.5


def quality_table(result: dict[str, Any]) -> str:
    """A Markdown table, one row for each kind of keyframes, and the two figures that compare them."""
    table = figure_table(f"K = {result['keyframes']}", result["rows"].items(), MEASURES)
    gap, distance = result["caption_gap_of_real"], result["frechet_of_mixed"]
    compared = f"Gap between own and another's caption: {gap:.0%} of the real clips'."
    compared += f" Frechet distance above the floor: {distance:.0%} of that of mixed clips."
    return f"{result['clips']} held-out captions.\n\n{table}\n\n{compared}\n"


def sheet(held_out: HeldOut, made: Pictures) -> Image.Image:
    """Real and generated keyframes of the first captions."""
    pairs = zip(held_out.pictures[:SHOWN], made[:SHOWN], held_out.captions, strict=False)
    return stacked([contact_sheet([true, own], ["real", "generated"], None, said) for true, own, said in pairs])


def world_of(run: Run) -> MovingShapes:
    """The moving shapes that a run was trained on, whose scenes train the probe.

    Raises:
        BadValue: the run was trained on other data.
    """
    made = build(run.config.data.writer) if run.config.data.get("writer") is not None else None
    if not isinstance(made, MovingShapes):
        raise BadValue(
            "checkpoint", run.checkpoint, "a run on moving shapes, because the probe is trained on their scenes"
        )
    return made
