"""The log book: one Markdown file for every run that has ended, and a table of the entries with a decision.

An entry has facts as YAML, the results, and a decision. A person writes the decision, which adds the entry to the
table:

    ---
    date: 2026-11-22T15:10:03+00:00
    experiment: gt_keyframes
    ...
    ---
    ## Against interpolation
    | level | interpolation MSE | refined MSE | refined / interpolation | clips improved |
    ## Decision

Each run writes its own file, so simultaneous runs do not conflict. Paths are written as ``logs/...`` or by their last
part, so that entries do not depend on the machine's folders.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from interp_refiner.config import writable_folder
from interp_refiner.core import BadValue
from interp_refiner.training.checkpoint import write_whole
from interp_refiner.training.missing_frame import FIGURES, level_cells, validated_clips
from interp_refiner.training.record.portable import without_folders
from interp_refiner.training.record.run_record import RunRecord

INDEX = "README.md"
TABLE = "evaluation/table.md"  # in a run folder: short results of the evaluation at the end
UNDECIDED = "*open*"
NOT_IN_TABLE = ("experiment_name", "next_command", "scales", "print_config", "log_book", "evaluation", "data.writer")
# Names that entries use for the paths of ``conf/paths``; the longest path is replaced first.
PLACES = {"log_dir": "logs", "cache": "cache", "data_root": "data", "shared_checkpoints": "checkpoints", "root": "."}


@dataclass(frozen=True)
class LogBook:
    """A folder of entries.

    Args:
        folder: created with the first entry.
        places: the paths of ``conf/paths``, which entries replace by their names.
    """

    folder: Path
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: str | None, places: Mapping[str, str]) -> "LogBook | None":
        """The book in ``folder``; None if ``folder`` is None.

        Raises:
            BadValue: the folder cannot be written to.
        """
        return None if folder is None else cls(writable_folder("log_book", Path(folder)), places)

    @classmethod
    def existing(cls, folder: str, places: Mapping[str, str]) -> "LogBook":
        """The existing book in ``folder``.

        Raises:
            BadValue: there is none.
        """
        if not Path(folder).is_dir():
            raise BadValue("log_book", folder, "a folder with entries, which runs make when they end; or name runs")
        return cls(Path(folder), places)

    def enter(self, record: RunRecord, run: Path) -> Path:
        """Adds the entry of a run that has ended; returns the entry's file.

        Args:
            record: of the run.
            run: its folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        when = record.started[:19].replace("T", "_").replace(":", "-")
        path = reserved(self.folder, f"{when}_{record.experiment}_{record.identity[:8]}")
        with write_whole(path) as file:
            table = run / TABLE
            evaluation = table.read_text() if table.is_file() else ""
            file.write(entry(self.relative_values(asdict(record)), self.relative(str(run)), evaluation).encode())
        return path

    def relative_values(self, value: Any) -> Any:
        """A value with :meth:`relative` applied to every string in it."""
        if isinstance(value, Mapping):
            return {key: self.relative_values(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.relative_values(item) for item in value]
        return self.relative(value) if isinstance(value, str) else value

    def relative(self, text: str) -> str:
        """``text`` with known paths replaced by their names, and other absolute paths by their last part."""
        known = sorted(((str(self.places[n]), name) for n, name in PLACES.items() if n in self.places), reverse=True)
        for path, name in sorted(known, key=lambda item: len(item[0]), reverse=True):
            text = re.sub(rf"{re.escape(path.rstrip('/'))}(?=/|$|[\s'\"])", name, text)
        return without_folders(text)

    def write_index(self) -> Path:
        """Writes the table of the entries with a decision, and a list of the others, both newest first."""
        path = self.folder / INDEX
        entries = [facts(p) for p in sorted(self.folder.glob("*.md"), reverse=True) if p.name != INDEX]
        with write_whole(path) as file:
            file.write(index(entries).encode())
        return path


def reserved(folder: Path, name: str) -> Path:
    """A new empty file ``name.md``, or ``name-2.md`` and so on if the name is taken."""
    for number in range(1, 1_000_000):
        path = folder / (f"{name}.md" if number == 1 else f"{name}-{number}.md")
        try:
            path.open("x").close()
        except FileExistsError:
            continue
        return path
    raise FileExistsError(name)


def entry(record: Mapping[str, Any], run: str, evaluation: str = "") -> str:
    """The text of an entry.

    Args:
        record: the fields of a :class:`RunRecord`.
        run: its folder, as written in the entry.
        evaluation: tables of the evaluation at the run's end; may be empty.
    """
    metrics, speed, memory = record["metrics"], record["samples_per_second"], record["peak_memory_gb"]
    about: dict[str, Any] = {
        "date": record["started"],
        "ended": record["ended"],
        "experiment": record["experiment"],
        "run": run,
        "status": record["status"],
        **({"error": record["error"]} if record["error"] else {}),
        "identity": record["identity"],
        "commit": record["git_commit"],
        "uncommitted changes": record["git_dirty"],
        "command": record["command"],
        "data": record["data"],
        "checkpoints": record["checkpoints"],
        "settings": record["settings"],
        "device": record["device"],
        "processes": record["world_size"],
        "steps": record["steps"],
        "samples a second": speed and round(speed, 2),
        "peak memory, GB": memory and round(memory, 2),
        "ratio": metrics.get("val/mean/ratio"),
    }
    front = yaml.safe_dump(about, sort_keys=False, width=120, allow_unicode=True)
    limit = record["settings"].get("trainer.limit_val_batches")
    scope = validated_clips(limit) if record["status"] == "finished" else "the clips validated on while training"
    table = figures(metrics)
    results = (
        f"## Against interpolation\n\nMissing frames of {scope}, mean squared error.\n\n{table}\n" if table else ""
    )
    results += f"## Evaluation\n\n{evaluation}\n" if evaluation else ""
    return f"---\n{front}---\n\n{results}## Decision\n\n{UNDECIDED}\n"


def figures(metrics: Mapping[str, float | None]) -> str:
    """The last validation's results by level as a Markdown table; empty if there are none."""
    headings = ["level", *(measure.heading for measure in FIGURES)]
    rows = [[level, *cells] for level, cells in level_cells(metrics).items()]
    lines = [" | ".join(row) for row in (headings, ["---"] * len(headings), *rows)]
    return "".join(f"| {line} |\n" for line in lines) if rows else ""


def facts(path: Path) -> dict[str, Any]:
    """The facts of an entry, with its ``file`` and ``decision``; an unreadable entry has the status "not an entry"."""
    try:
        _, _, rest = path.read_text().partition("---\n")
        front, _, body = rest.partition("\n---\n")
        found = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError):  # a folder, another encoding, a date that does not exist
        found, body = None, ""
    kinds = {"settings": dict | None, "ratio": float | int | None}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    about = found if whole else {"status": "not an entry"}
    return {**about, "file": path.name, "decision": body.partition("## Decision")[2].strip() or UNDECIDED}


def in_table(key: str) -> bool:
    """Whether a setting belongs in the table: all but those in :data:`NOT_IN_TABLE`."""
    return not any(f"{key}.".startswith(f"{name}.") for name in NOT_IN_TABLE)


def short(key: str, value: Any) -> str:
    """A setting in short form: ``noise=Gauss`` for ``noise._target_=interp_refiner.forward.corruption.Gauss``."""
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def index(entries: Sequence[Mapping[str, Any]]) -> str:
    """The table of the entries that have a decision, then a list of the others, as ``make log`` writes them."""
    lines = ["# Log book", "", "Made by `make log` from the entries in this folder that have a decision.", ""]
    lines += [
        "| date | experiment | status | settings | error / interpolation | decision |",
        "|---|---|---|---|---|---|",
    ]
    for about in entries:
        if about["decision"] == UNDECIDED:
            continue
        ratio = about.get("ratio")
        settings = ", ".join(short(key, value) for key, value in (about.get("settings") or {}).items() if in_table(key))
        cells = [*summary_of(about), settings]
        cells += ["" if ratio is None else f"{ratio:.3f}", about["decision"].splitlines()[0]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    if others := [about for about in entries if about["decision"] == UNDECIDED]:
        lines += ["", "## Without a decision", "", "Write one at the end of an entry, and the table has it.", ""]
        lines += ["- " + ", ".join(filter(None, summary_of(about))) for about in others]
    return "\n".join(lines) + "\n"


def summary_of(about: Mapping[str, Any]) -> list[str]:
    """An entry's date, which links to it, experiment and status."""
    date = str(about.get("date", about["file"]))[:16].replace("T", " ")
    return [f"[{date}]({about['file']})", str(about.get("experiment", "")), str(about.get("status", ""))]
