"""Compares students: ``python experiments/distillation/students.py <file> <clips> <data root> <run> ...``.

One step of every student and 16 steps of the teacher start from the same noise, with two samples per held-out clip.
Writes ``<file>``, such as ``students.json``, which ``table.py <file>`` prints.
"""

import sys
from pathlib import Path

import torch
from measure import STREAMS, TEACHER, batches_of, held_out, sample, update, write

from interp_refiner import load_run
from interp_refiner.model.sampler import Bridge, Consistency
from interp_refiner.training.missing_frame import missing_frame_mse


@torch.no_grad()
def main(file: str, clips: int, root: str, paths: list[str]) -> None:
    """Measures all students on the same clips."""
    run = held_out(paths[0], root)
    teacher = load_run("shipped").refiner
    students = {Path(path).name: load_run(path).refiner for path in paths}
    figures: dict = {"clips": clips, "students": list(students), "levels": {}}
    tables: dict = {}
    endpoint: dict = {}
    for batch in batches_of(run, clips, teacher.corruption):
        for level, start, index in batch:
            starts = list(zip([start, teacher.corruption.renoised(start, STREAMS[1])], STREAMS, strict=True))
            made = {TEACHER: [sample(teacher, Bridge(16, order=1), s, stream) for s, stream in starts]}
            for name, student in students.items():
                made[name] = [sample(student, Consistency(1), s, stream) for s, stream in starts]
            firsts = {name: both[0] for name, both in made.items()}
            mean = start.keep_given(teacher.clean_estimate(start))
            shown = firsts | {"mean": mean, "interpolation": start.interpolation}
            for name, x in shown.items():
                error = missing_frame_mse(x, firsts[TEACHER], start.missing)
                endpoint.setdefault((level, name), []).append(error)
            update(tables, level, shown, made, start, index, run.medium)
    write(figures, endpoint, tables, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
