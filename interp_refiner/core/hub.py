"""Weights by name: a local folder or file, or a model of the Hugging Face hub, through its own client and cache."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import errors, hf_hub_download, snapshot_download

from interp_refiner.core.errors import BadValue

# owner/name, owner/name@revision, owner/name/file.safetensors, owner/name@revision/file.safetensors
HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w.-]+))?(?:/(.+\.safetensors))?")
INDICES = ("model_index.json", "config.json")
# The first match counts, because some classes are subclasses of later ones.
REASONS: dict[type[Exception], str] = {
    errors.GatedRepoError: "its licence has to be accepted on its page, and HF_TOKEN has to be set",
    errors.RepositoryNotFoundError: "the hub has no such model, or it is private and HF_TOKEN is not set",
    errors.RevisionNotFoundError: "the hub has no such revision of it",
    errors.OfflineModeIsEnabled: "it is not in the cache, and HF_HUB_OFFLINE is set",
    errors.LocalEntryNotFoundError: "it is not in the cache, and the hub cannot be reached",
    errors.EntryNotFoundError: "the hub's model has no such file",
    errors.HFValidationError: "this is not a valid model name",
}


def on_hub(value: object) -> str | None:
    """``owner/name`` of a value that :func:`fetch` treats as a model of the hub; None for a path."""
    found = HUB.fullmatch(str(value))
    return None if found is None or Path(str(value).partition("/")[0]).exists() else found[1]


def fetch(
    name: str, value: str | Path, parts: Sequence[str] = (), files: Sequence[str] = (), beside: Sequence[str] = ()
) -> Path:
    """The path of weights: a local path itself, or a hub model's path in the local cache, after its download.

    Local files come first: if a folder ``owner`` exists here, ``owner/name`` is a path. ``HF_HOME``, ``HF_TOKEN``,
    ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` work as in huggingface_hub. Cached files are not downloaded again.

    Args:
        name: of the setting, for errors.
        value: a path, ``owner/name`` or ``owner/name@revision``; ``/<file>.safetensors`` may follow the last two.
        parts: the folders of a pipeline to download, such as ``transformer``. If the model is not a pipeline, its
            configuration and weights are downloaded instead. Without ``parts`` and ``files``, everything is downloaded.
        files: patterns of other files to download.
        beside: names of files to download into the folder of a single file, if the model has them.

    Raises:
        BadValue: the hub has no such model or file, denies access to it, or cannot be reached.
    """
    if (found := HUB.fullmatch(str(value))) is None or on_hub(value) is None:
        return Path(value).expanduser()
    repo, revision, file = found.groups()
    with refused(name, value):
        if file is not None:
            single = Path(hf_hub_download(repo, file, revision=revision))
            if wanted := [f"{file.rpartition('/')[0]}/{other}".lstrip("/") for other in beside]:
                snapshot_download(repo, revision=revision, allow_patterns=wanted)
            return single
        if not parts and not files:
            return Path(snapshot_download(repo, revision=revision))
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[*INDICES, *files]))
        if parts and (folder / INDICES[0]).is_file():
            wanted = [f"{part}/*" for part in parts]
            return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
        if parts:
            wanted = ["*.safetensors", "*.safetensors.index.json"]
            return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"]))
        return folder


@contextmanager
def refused(name: str, value: object, wanted: str = "a path, or a model of the hub (owner/name)") -> Iterator[None]:
    """Turns an error of the hub's client into a :class:`BadValue` with a one-line message."""
    try:
        yield
    except Exception as error:
        reason = next((text for kind, text in REASONS.items() if isinstance(error, kind)), None)
        message = reason or " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise BadValue(name, value, f"{wanted}: {message}") from error
