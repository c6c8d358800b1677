"""The tables of README.md: ``python experiments/distillation/table.py [figures.json]`` prints them as Markdown."""

import json
import sys
from pathlib import Path

from interp_refiner.evaluation.records.markdown import markdown_table

KEYFRAMES = {"1": "8", "2": "5"}
TEACHER = "bridge, 16 steps"
METHODS = [TEACHER, "bridge, 4 steps", "student, 1 step", "student, 2 steps", "student, 4 steps"]
METHODS += ["mean and scaled noise", "mean", "interpolation"]
PLAIN = ["energy_score", "spread_skill", "inside_motion", "flicker", "high_frequency"]


def row(level: str, found: dict, method: str) -> list[str]:
    """One method at one level."""
    values = {(r["measure"], r["against"]): r for r in found["records"] if r["method"] == method}

    def told(measure: str, against: str | None = None) -> str:
        r = values.get((measure, against))
        if r is None:
            return "–"
        return f"{r['value']:.3f}" + (f" ({r['low']:.2f}..{r['high']:.2f})" if against else "")

    end = found["endpoint error"].get(method)
    jumps = method in ("student, 2 steps", "student, 4 steps") or end is None  # they draw new noise
    endpoint = "–" if jumps else f"{end[0]:.4f} ({end[1]:.4f}..{end[2]:.4f})"
    return [
        KEYFRAMES[level],
        method,
        endpoint,
        told("mse_ratio", "interpolation"),
        told("frechet_ratio", TEACHER),
        *map(told, PLAIN),
    ]


if __name__ == "__main__":
    file = sys.argv[1] if len(sys.argv) > 1 else "figures.json"
    figures = json.loads(Path(__file__).with_name(file).read_text())
    headings = ["keyframes", "", "endpoint error / mean's", "MSE / base", "Frechet / teacher's", "energy score"]
    headings += ["spread / skill", "motion in gaps", "flicker", "high frequencies"]
    print(figures.get("clips measured", figures["clips"]), "clips")
    methods = [TEACHER, *figures["students"], "mean"] if "students" in figures else METHODS
    print(markdown_table(headings, [row(n, found, m) for n, found in figures["levels"].items() for m in methods]))
