"""Compares ways from a caption to a video: ``python pipelines.py <clips> <refiner> <keyframes> [<all frames> ...]``.

<refiner> and <keyframes> are run folders or ``shipped``; <all frames> are runs of generators of all frames. The
captions are those of held-out clips. Prints a Markdown table, and writes ``pipelines.json``.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from interp_refiner import load_run
from interp_refiner.assemble import load_phase1
from interp_refiner.config import build, run_metadata
from interp_refiner.core import Clip, Draws, KeyframePlan
from interp_refiner.data.world.scorer import SHIPPED, load_reader
from interp_refiner.evaluation.evaluator.controls import noise_of_its_size
from interp_refiner.evaluation.evaluator.keyframe_quality import background, read_by
from interp_refiner.evaluation.measures import FLOOR, FrechetDistance, RandomConvFeatures
from interp_refiner.evaluation.measures.realism import energies
from interp_refiner.evaluation.run.notebook import config
from interp_refiner.forward.interpolator import Linear
from interp_refiner.forward.schedule.uniform import evenly_spaced
from interp_refiner.model.keyframes import Heun, KeyframeRequest, KeyframeSource
from interp_refiner.model.sampler import Bridge
from interp_refiner.training import Refiner

HERE, BATCH, KEYFRAMES = Path(__file__).parent, 16, 5
SAMPLER = Heun(steps=20, guidance=2.0, shift=4.0)
INTERPOLATED, MEAN, SAMPLE, NOISE = "phase 1, interpolation", "pipeline, mean", "pipeline, sample", "noise of its size"
SAMPLES = {SAMPLE: Bridge(8, order=1)} | {f"{SAMPLE} of {n} steps": Bridge(n, order=1) for n in (4, 2)}


def generated(source: KeyframeSource, frames: list[int], clip: Clip) -> Tensor:
    """The frames of these numbers, from the captions alone."""
    positions = torch.tensor(frames).expand(clip.batch_size, -1)
    empty, none = torch.zeros_like(clip.latents[:, :, frames]), torch.zeros_like(positions, dtype=torch.bool)
    request = KeyframeRequest(positions, clip.num_frames, empty, none, clip.text, prompts=clip.prompts)
    return source(request, Draws(0, "sample", clip.keys))


def from_keyframes(refiner: Refiner, keyframes: Tensor, known: Tensor, clip: Clip) -> dict[str, Tensor]:
    """The videos that interpolation and refiner make of keyframes."""
    latents = torch.zeros_like(clip.latents)
    latents[:, :, known[0]] = keyframes
    own, top = Clip(latents, clip.keys, text=clip.text), refiner.corruption.num_levels(clip.num_frames)
    plan = KeyframePlan(known * top, known, top)
    draws = Draws(0, "refined", clip.keys)
    start = refiner.corruption.of_keyframes(own, plan, torch.full((clip.batch_size,), top), draws)
    samples = {name: s(refiner.clean_estimate, start, draws, refiner.corruption) for name, s in SAMPLES.items()}
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(len(clip.keys)))
    return {
        "phase 1, linear": Linear()(latents, known).latents,
        INTERPOLATED: start.interpolation,
        MEAN: start.keep_given(refiner.clean_estimate(start)),
        **samples,
        NOISE: start.keep_given(noise_of_its_size(samples[SAMPLE], start.interpolation, noise)),
    }


@torch.no_grad()
def main(clips: int, refiner_at: str, keyframes_at: str, whole_at: list[str]) -> None:
    """Measures, writes the figures, and prints a Markdown table."""
    world = build(config("+experiment=keyframes", "data=many_shapes").data.writer)
    run = load_run(refiner_at)
    sources = {}
    for place in (keyframes_at, *whole_at):
        phase1 = load_phase1(place)
        source = phase1.with_sampler(SAMPLER, {}).of_clips(run.spec).asked
        assert source is not None
        sources[place] = source
    frames = evenly_spaced(run.spec.num_frames, KEYFRAMES)
    shown: dict[str, list[Tensor]] = {}
    said: list[str] = []
    for keys, captions, video in world.clips("val", clips):
        for start in range(0, len(keys), BATCH):
            part = slice(start, start + BATCH)
            said += captions[part]
            text = world.text.encode(captions[part])
            clip = Clip(run.codec.encode(video[part]), keys[part], text=text, prompts=captions[part])
            known = torch.zeros(clip.batch_size, clip.num_frames, dtype=torch.bool)
            known[:, frames] = True
            made = {
                "real": clip.latents,
                "true keyframes, sample": from_keyframes(run.refiner, clip.latents[:, :, frames], known, clip)[SAMPLE],
            }
            made |= from_keyframes(run.refiner, generated(sources[keyframes_at], frames, clip), known, clip)
            for place in whole_at:
                made[f"all frames: {Path(place).name}"] = generated(sources[place], list(range(clip.num_frames)), clip)
            for name, latents in made.items():
                shown.setdefault(name, []).append(run.codec.decode(latents))
        print(len(said), file=sys.stderr, flush=True)
    videos = {name: torch.cat(parts) for name, parts in shown.items()}
    rows = judged(videos, frames, said)
    figures = {
        "clips": len(said),
        "refiner": refiner_at,
        "keyframes": keyframes_at,
        "sampler": repr(SAMPLER),
        "rows": rows,
    }
    (HERE / "pipelines.json").write_text(json.dumps({**figures, **run_metadata()}, indent=1) + "\n")
    print(table(rows))


def judged(videos: dict[str, Tensor], frames: list[int], captions: list[str]) -> dict[str, dict]:
    """The figures of every method; the truth is ``real``."""
    methods = [name for name in videos if name != "real"]
    frechet = FrechetDistance(methods, [INTERPOLATED], RandomConvFeatures(3))
    frechet.update({name: videos[name] for name in methods}, videos["real"], torch.arange(len(captions)))
    rows: dict[str, dict] = {name: {} for name in (*videos, FLOOR)}
    for record in frechet.compute():
        rows[record.method][record.measure] = [record.value, record.low, record.high]
    reader, known = load_reader(SHIPPED), torch.zeros(len(captions), videos["real"].shape[2], dtype=torch.bool)
    known[:, frames] = True
    truth = {name: value.mean() for name, value in energies(videos["real"], known).items()}
    for name, clips in videos.items():
        rows[name] |= {key: (value.mean() / truth[key]).item() for key, value in energies(clips, known).items()}
        rows[name] |= read_by(reader, clips[:, :, frames], captions)
        rows[name]["background"] = background(clips)
    return rows


def table(rows: dict[str, dict]) -> str:
    """The figures in Markdown."""

    def interval(row: dict, name: str) -> str:
        return "{:.3f} [{:.3f}, {:.3f}]".format(*row[name]) if name in row else ""

    plain = (
        "boundary_motion",
        "inside_motion",
        "flicker",
        "high_frequency",
        "own_caption",
        "other_caption",
        "background",
    )
    lines = ["| | Frechet | relative to interpolation | " + " | ".join(plain) + " |", "|---" * (3 + len(plain)) + "|"]
    for name, row in rows.items():
        cells = [f"{row[key]:.3f}" if key in row else "" for key in plain]
        lines.append(
            f"| {name} | {interval(row, 'frechet')} | {interval(row, 'frechet_ratio')} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
