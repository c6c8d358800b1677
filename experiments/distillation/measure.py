"""Measures the figures of README.md: ``python experiments/distillation/measure.py <student> <clips> <data root>``.

Student and teacher start from the same noise, on the first held-out clips at both levels. Writes ``figures.json``.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from interp_refiner import load_run
from interp_refiner.core import Corrupted, Draws
from interp_refiner.evaluation import Run
from interp_refiner.evaluation.measures import (
    Batch,
    Design,
    Frechet,
    Realism,
    SeveralSamples,
    SquaredError,
    paired_bootstrap,
)
from interp_refiner.evaluation.run.notebook import config
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.objective.preconditioned import FASTER
from interp_refiner.model.sampler import Bridge, Consistency, Sampler
from interp_refiner.training import Refiner
from interp_refiner.training.missing_frame import missing_frame_mse

HERE = Path(__file__).parent
STREAMS = ("val", "val_1")  # two samples per clip
LONG = 32  # clips with the teacher's 64 steps
TEACHER = "bridge, 16 steps"
SAMPLES = {
    TEACHER: Bridge(16, order=1),
    "bridge, 4 steps": Bridge(4, order=1),
    "student, 1 step": Consistency(1),
    "student, 2 steps": Consistency(2),
    "student, 4 steps": Consistency(4),
}


class Starts(NamedTuple):
    """Corrupted clips of one level, and their indices among the clips of that level."""

    level: int
    start: Corrupted
    index: Tensor


def sample(refiner: Refiner, sampler: Sampler, start: Corrupted, stream: str) -> Tensor:
    """One sample for every start."""
    draws = Draws(0, stream, start.clip.keys)
    return sampler(refiner.clean_estimate, start, draws, refiner.corruption)


def carried(teacher: Refiner, student: Refiner, start: Corrupted) -> Tensor:
    """The control: the teacher's mean plus its noise, scaled by the student's gain per channel."""
    on = teacher.objective.arc(start)
    gain = (FASTER * student.objective.gain).view(1, -1, 1, 1, 1)
    return start.keep_given(teacher.clean_estimate(start) + gain * on.deviation * on.point)


def all_samples(teacher: Refiner, student: Refiner, start: Corrupted) -> dict[str, list[Tensor]]:
    """Two samples of every method, each with other noise."""
    starts = [start, teacher.corruption.renoised(start, STREAMS[1])]
    made = {
        name: [
            sample(student if sampler.of_distilled else teacher, sampler, s, stream)
            for s, stream in zip(starts, STREAMS, strict=True)
        ]
        for name, sampler in SAMPLES.items()
    }
    return made | {"mean and scaled noise": [carried(teacher, student, s) for s in starts]}


def seconds(teacher: Refiner, student: Refiner, start: Corrupted) -> dict[str, float]:
    """CPU seconds per clip, without its interpolation; the best of three."""
    found = {}
    samplers = {"student, 1 step": Consistency(1)} | {f"bridge, {n} steps": Bridge(n, order=1) for n in (1, 4, 16)}
    for name, sampler in samplers.items():
        taken = []
        for _ in range(3):
            begun = time.process_time()
            sample(student if sampler.of_distilled else teacher, sampler, start, "val")
            taken.append((time.process_time() - begun) / start.clip.batch_size)
        found[name] = min(taken)
    return found


def held_out(path: str, root: str) -> Run:
    """A run on the held-out clips of this experiment, which are below a root."""
    clips = {"data.root": root, "data.writer.num_train": 1000, "data.writer.num_val": 256}
    return load_run(path, overrides={"data": config().data, **clips})


def batches_of(run: Run, clips: int, corruption: Corruption) -> Iterator[list[Starts]]:
    """The starts of every batch, one entry per level."""
    counted = dict.fromkeys((1, 2), 0)
    for batch in run.data.validating(clips, 8).val_dataloader():
        whole = replace(batch, latents=batch.latents.float(), text=batch.text.float())
        starts = []
        for level in counted:
            clip = whole.select((whole.level == level).nonzero().flatten().tolist())
            index = counted[level] + torch.arange(clip.batch_size)
            counted[level] += clip.batch_size
            starts.append(Starts(level, corruption(clip, "val"), index))
        yield starts


@torch.no_grad()
def main(student_at: str, clips: int, root: str) -> None:
    """Measures, writes the figures, and prints its progress."""
    run = held_out(student_at, root)
    student, teacher, medium = run.refiner, load_run("shipped").refiner, run.medium
    figures: dict = {"clips": clips, "student": student_at, "levels": {}}
    tables: dict = {}
    endpoint: dict = {}
    measured = 0
    for number, batch in enumerate(batches_of(run, clips, teacher.corruption)):
        for level, start, index in batch:
            measured += start.clip.batch_size if level == 1 else 0
            made = all_samples(teacher, student, start)
            firsts = {name: both[0] for name, both in made.items()}
            mean = start.keep_given(teacher.clean_estimate(start))
            shown = firsts | {"mean": mean, "interpolation": start.interpolation}
            errors = {name: missing_frame_mse(x, firsts[TEACHER], start.missing) for name, x in shown.items()}
            if int(index[0]) < LONG:
                long = sample(teacher, Bridge(64, order=1), start, "val")
                errors["64 steps"] = missing_frame_mse(firsts[TEACHER], long, start.missing)
                errors["64 steps, mean"] = missing_frame_mse(mean, long, start.missing)
                errors["64 steps, student"] = missing_frame_mse(firsts["student, 1 step"], long, start.missing)
            for name, error in errors.items():
                endpoint.setdefault((level, name), []).append(error)
            update(tables, level, shown, made, start, index, medium)
        if number == 0:
            figures["seconds a clip"] = seconds(teacher, student, start)
        print(number, measured, flush=True)
        figures["clips measured"] = measured
        if number % 2 == 1:
            write(figures, endpoint, tables)
    write(figures, endpoint, tables)


def update(tables: dict, level: int, shown: dict, made: dict, start: Corrupted, index: Tensor, medium) -> None:
    """Adds a batch to the tables of every metric."""
    if level not in tables:
        design = Design(dict.fromkeys(shown, "estimate"), [TEACHER, "interpolation"])
        tables[level] = {metric: metric().table(design) for metric in (SquaredError, Realism, Frechet)}
        for name in made:
            one = Design({name: "estimate"})
            tables[level][name] = SeveralSamples(len(STREAMS), name).table(one)
    views = {name: medium.views(clip)["videos"] for name, clip in shown.items()}
    frames = torch.tensor(medium.latent_frame(start.known.shape[1]))
    truth = medium.views(start.clean)["videos"]
    decoded = Batch(views, truth, start.known, start.level, index, frames)
    latents = Batch(shown, start.clean, start.known, start.level, index, values=start.values, clip=start.clip)
    for key, table in tables[level].items():
        if isinstance(key, str):
            several = partial(Batch, {key: made[key][0]}, start.clean, start.known, start.level, index)
            table.update(several(samples=torch.stack(made[key])))
        else:
            table.update(latents if key is SquaredError else decoded)


def write(figures: dict, endpoint: dict, tables: dict, file: str = "figures.json") -> None:
    """Writes the figures: endpoint errors relative to the mean's, and every record of every table."""
    for level in tables:
        error = {name: torch.cat(e) for (at, name), e in endpoint.items() if at == level}
        pairs = {name: (e, error["mean"]) for name, e in error.items() if not name.startswith("64")}
        pairs |= {n: (error[n], error["64 steps, mean"]) for n in ("64 steps", "64 steps, student") if n in error}
        ratios = {name: [(i := paired_bootstrap(*pair)).value, i.low, i.high] for name, pair in pairs.items()}
        records = [
            {
                "method": r.method,
                "measure": r.measure,
                "against": r.against,
                "value": r.value,
                "low": r.low,
                "high": r.high,
            }
            for table in tables[level].values()
            for r in table.compute()
            if r.gap is None and r.offset is None
        ]
        figures["levels"][level] = {"endpoint error": ratios, "records": records}
    (HERE / file).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
