"""What ``interp_refiner.sample`` prints for a video: its plan, its cost, and the state of its keyframes."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from interp_refiner.config import terminal
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.file.timeline import collisions
from interp_refiner.storyboard.pipeline.cost import expected_cost
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.plan.plan import VideoPlan

CONTRACT = ("keyframe", "frame", "kind", "exact", "PSNR", "colour shift", "seam flicker")


def show_plan(plan: VideoPlan, keyframes: list[Keyframe], notes: list[str]) -> None:
    """Prints the latent slot of every keyframe, collisions, and differences from training."""
    console = terminal(wide=True)
    c, t, y, x = plan.latent_shape
    console.print(
        f"{plan.grid.num_frames} frames at {plan.fps:g} per second, latents {c} x {t} x {y} x {x}, level {plan.level}"
    )
    taken = {second.index: first.index for first, second in collisions(plan.placed)}
    table = Table("keyframe", "file", "time", "frame", "latent frames", "pixel frames", "kind", "", box=SIMPLE_HEAD)
    for p in sorted(plan.placed, key=lambda placed: (placed.slots.start, placed.index)):
        keyframe = keyframes[p.index]
        kind = kind_of(keyframe.given, keyframe.generated, keyframe.strength)
        collision = f"collides with keyframe {taken[p.index]}" if p.index in taken else ""
        table.add_row(
            str(p.index), keyframe.name, str(keyframe.time), str(p.frame), span(p.slots), span(p.shown), kind, collision
        )
    console.print(table)
    for index, part in enumerate(plan.parts):
        console.print(f"window {index}: latent frames {span(range(part.start, part.stop))}")
    for note in [*notes, *plan.notes]:
        console.print(f"note: {note}", soft_wrap=True)


def show_cost(pipeline: RefinerPipeline, plan: VideoPlan, keyframes: list[Keyframe], prompt: str) -> None:
    """Prints the expected cost, from one estimate and a few decoded frames that are timed now."""
    cost = expected_cost(pipeline, plan, keyframes, prompt)
    made = f"{cost.generating:.1f} s for {cost.generated} passes of the keyframe generator, " if cost.generated else ""
    terminal(wide=True).print(
        f"about {cost.seconds:.1f} s and {cost.gigabytes:.1f} GB on {pipeline.device}: {made}{cost.refining:.1f} s for "
        f"{cost.estimates} passes of the refiner, {cost.decoding:.1f} s of decoding",
        soft_wrap=True,
    )


def show_result(report: dict[str, Any], file: Path) -> None:
    """Prints the keyframe contract and the paths of all files."""
    console = terminal(wide=True)
    table = Table(*CONTRACT, box=SIMPLE_HEAD)
    for row in report["keyframes"]:
        table.add_row(*contract_row(row))
    console.print(table)
    for joint in report["joints"]:
        first, last = joint["latent_frames"]
        console.print(
            f"joint at latent frames {span(range(first, last + 1))}: seam flicker {joint['seam_flicker']:.2f}"
        )
    for note in report["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    for name in [*report["files"], file]:
        console.print(str(name), soft_wrap=True)


def contract_row(record: dict[str, Any]) -> list[str]:
    """A keyframe's record as text, with the columns of ``CONTRACT``."""
    numbers = (record.get("psnr"), record.get("colour_shift"), record.get("seam_flicker"))
    shown = ["" if value is None else f"{value:.3g}" for value in numbers]
    kind = kind_of(record["hard"], record["generated"], record["strength"])
    return [record["name"], str(record["frame"]), kind, "yes" if record["exact"] else "no", *shown]


def kind_of(hard: bool, generated: bool, strength: float | None) -> str:
    """Whether a keyframe is kept, a proposal, or made from the prompt."""
    told = "" if strength is None else f"strength {strength:g}"
    return "hard" if hard else " ".join(filter(None, ["generated" if generated else "", told]))


def span(numbers: range) -> str:
    """``5`` or ``5-8``."""
    return str(numbers.start) if len(numbers) == 1 else f"{numbers.start}-{numbers.stop - 1}"
