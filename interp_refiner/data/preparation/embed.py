"""Writes prompt embeddings as tensor files, with any number of processes."""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from interp_refiner.core import BadValue, read_stored
from interp_refiner.data.lock import locked
from interp_refiner.data.preparation.process import Process
from interp_refiner.data.settings import difference
from interp_refiner.data.text import TextEncoder

ABOUT = "prompts.json"


def embed(encoder: TextEncoder, prompts: Mapping[str, str], output: Path, process: Process | None = None) -> int:
    """Writes ``<output>/<name>.pt``, ``[L, D]``, for this process's share of ``prompts``, and ``prompts.json``.

    Existing files are kept. ``prompts.json`` is written first, so that no run with other prompts adds to the folder.

    Returns:
        The number of files that other processes have not written yet.

    Raises:
        BadValue: ``output`` holds embeddings of other prompts or another encoder, or another run writes to it.
    """
    process = process or Process()
    about: dict[str, Any] = {"text": encoder.describe(), "prompts": dict(prompts)}
    output.mkdir(parents=True, exist_ok=True)
    files = [output / f"{name}.pt" for name in prompts]
    with ExitStack() as working:
        with locked(output):
            _begin(output / ABOUT, about)
            working.enter_context(process.claims(output, output))
        for number in process.share(len(files)):
            if not files[number].is_file():
                part = files[number].with_suffix(".part")
                torch.save(encoder.encode([prompts[files[number].stem]])[0].cpu().clone(), part)
                os.replace(part, files[number])
    return sum(not file.is_file() for file in files)


def _begin(file: Path, about: dict[str, Any]) -> None:
    """Writes ``prompts.json``; raises :class:`BadValue` if it is damaged, or the folder holds something else."""
    if file.is_file() and (found := read_stored("output", file, dict)) != about:
        other = difference(found, about).partition(", ")[0]
        raise BadValue("output", file.parent, f"a new folder, or one of the same prompts and encoder ({other})")
    part = file.with_suffix(".part")
    part.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, file)
