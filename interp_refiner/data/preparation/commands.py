"""The commands of ``interp_refiner.prepare``, which make and check data sets."""

import json
import sys
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from interp_refiner.config import (
    build,
    folders_of_options,
    given,
    next_command,
    terminal,
    writable,
    writable_folder,
)
from interp_refiner.core import EXIT_INTERRUPTED, BadValue, Stopped, device
from interp_refiner.data import (
    AnchorShards,
    AnchorSource,
    DatasetMetadata,
    VideoEncoder,
    find_videos,
    inside,
    summary,
    walked,
    write_clip_windows,
)
from interp_refiner.data import verify as verify_shards
from interp_refiner.data.dataset import declared_metadata
from interp_refiner.data.mixed import bucket_names
from interp_refiner.data.preparation.embed import embed
from interp_refiner.data.preparation.process import Process
from interp_refiner.data.preparation.report import PAGE
from interp_refiner.data.shards.storage import holds_shards
from interp_refiner.data.verify import Report, verify_anchors


def cut_clip(cfg: DictConfig) -> None:
    """Cuts one clip of Wan latents into windows."""
    source, output = Path(cfg.source).expanduser(), writable("output", Path(cfg.output).expanduser())
    if not source.is_file():
        raise BadValue("source", source, "a tensor file of one clip: no such file")
    if output.is_dir() and any(output.iterdir()):
        raise BadValue("output", output, "a new or empty folder: it holds files already")
    cut = {"size": cfg.size, "stride": cfg.stride, "text_shape": cfg.text_shape}
    write_clip_windows(
        source,
        output,
        held_out_width=cfg.held_out_width,
        normalised=cfg.normalised,
        **{name: list(value) for name, value in cut.items()},
    )
    tell(output)


def write_shapes(cfg: DictConfig) -> None:
    """Writes the embedded moving-shapes clips."""
    output = writable_folder("output", Path(cfg.output).expanduser())
    build(cfg.writer).write(output)
    tell(output)


def encode_videos(cfg: DictConfig) -> None:
    """Encodes a folder of videos with captions."""
    process = Process.here(cfg.rank, cfg.world_size)
    process.take_gpu()
    captions = Path(cfg.captions).expanduser() if cfg.captions is not None else None
    output = writable("output", Path(cfg.output).expanduser().resolve())
    writable("output", output.parent)  # the data set is written beside the output and renamed at the end
    source, cut = Path(cfg.source).expanduser(), build(cfg.cut)
    videos = find_videos(source, captions, cut.suffixes)
    parts = build(cfg.codec).to(device(cfg.device)), build(cfg.text), cut, build(cfg.quality)
    encoder = VideoEncoder(*parts, *(cfg[name] for name in ("videos_per_shard", "threads", "batch_size")))
    try:
        encoded = encoder.write(videos, output, process)
    except KeyboardInterrupt:
        raise Stopped(f"interrupted: the same command continues in {output}.partial", EXIT_INTERRUPTED) from None
    console = terminal()
    if encoded.missing:
        said = f"{process} is done; unfinished chunks of others: {encoded.missing}; the last process completes {output}"
        console.print(said, soft_wrap=True)
        return
    for name, reason in encoded.skipped.items():
        console.print(f"skipped {name}: {reason}", soft_wrap=True)
    for mode, distance in encoded.still_gap.items():
        later = sum(distance[1:]) / max(1, len(distance) - 1)
        differs = f"differs from the video's latents by {later:.3f} (mean over latent frames from 1 on)"
        console.print(f"a picture encoded as {mode} {differs}", soft_wrap=True)
    for fault, count in encoded.left_out.items():
        console.print(f"{count} clips are left out: {fault}", soft_wrap=True)
    for remark, names in grouped(encoded.remarks).items():
        console.print(f"{remark}: {len(names)} videos, such as {names[0]}", soft_wrap=True)
    for reason, names in walked(source, cut.suffixes)[1].items():
        console.print(f"left out, {reason}: {len(names)}, such as {names[0]}", soft_wrap=True)
    without = sum(not video.caption for video in videos if video.name not in encoded.skipped)
    counted = f"{len(videos)} videos, {len(encoded.skipped)} skipped, {without} of the others without a caption"
    console.print(counted, soft_wrap=True)
    console.print(f"brightness, motion, sharpness and cuts of the clips: {output / PAGE}", soft_wrap=True)
    tell(output)


def grouped(remarks: dict[str, list[str]]) -> dict[str, list[str]]:
    """The names of the videos that have a remark, by remark."""
    names: dict[str, list[str]] = {}
    for name, said in remarks.items():
        for remark in said:
            names.setdefault(remark, []).append(name)
    return names


def embed_prompts(cfg: DictConfig) -> None:
    """Writes prompt embeddings as tensor files."""
    output = writable_folder("output", Path(cfg.output).expanduser())
    lines = prompt_lines(Path(cfg.prompts).expanduser()) if cfg.prompts is not None else []
    prompts = {f"{number:05d}": line for number, line in enumerate(lines)}
    prompts["negative"] = cfg.negative
    process = Process.here(cfg.rank, cfg.world_size)
    process.take_gpu()
    encoder = build(cfg.text)
    missing = embed(encoder, prompts, output, process)
    shape = [encoder.length, encoder.dim]
    others = f", {missing} of them still to be written by other processes" if missing else ""
    terminal().print(f"{output}: {len(prompts)} embeddings {shape}{others}", soft_wrap=True)


def prompt_lines(file: Path) -> list[str]:
    """The lines of a text file, without spaces around them; blank lines at its end do not count.

    Raises:
        BadValue: not a text file, or a blank line between others, which would shift the numbers of those after it.
    """
    allowed = "a text file in UTF-8, one prompt per line"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise BadValue("prompts", file, f"{allowed}: {reason}") from None
    lines = [line.strip() for line in text.rstrip().split("\n")]  # splitlines would also split at U+2028 and form feeds
    if "" in lines and len(lines) > 1:
        raise BadValue("prompts", file, f"{allowed}: line {lines.index('') + 1} is blank")
    return [] if lines == [""] else lines


def verify_folders(cfg: DictConfig) -> None:
    """Checks a data set for damage; the exit code is 0 for clean, 1 for damaged."""
    stores = build(cfg.stores)
    folders = {"": cfg.root, **{split: inside(cfg.root, split) for split in cfg.splits}}
    sizes = {split: bucket_names(stores.open(folder)) for split, folder in folders.items()}
    folders |= {f"{split}/{size}": inside(folders[split], size) for split in sizes for size in sizes[split]}
    opened = {split: storage for split, folder in folders.items() if (storage := stores.open(folder)).holds_shards()}
    if not opened:
        raise BadValue("root", cfg.root, f"a folder with shards, or with {' or '.join(cfg.splits)} that have them")
    metadata = build(cfg.metadata) if cfg.metadata is not None else None
    reports: dict[str, Report] = {}
    for split, storage in opened.items():
        anchors = None
        if cfg.anchors is not None:
            anchors = _anchors(Path(cfg.anchors).expanduser(), split, declared_metadata(storage, metadata))
            reports[anchors.storage.name] = verify_anchors(anchors)
        with tqdm(desc=storage.name, unit="sample", mininterval=0.2 if sys.stderr.isatty() else 10.0) as bar:

            def show(done: int, total: int, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            reports[storage.name] = verify_shards(storage, metadata, anchors, cfg.threads, show)
    output = Path(cfg.paths.output_dir, "verify.json")
    output.write_text(json.dumps([report.as_dict() for report in reports.values()], indent=2) + "\n")
    print(summary(list(reports.values())), f"report: {output}", sep="\n")
    if not all(report.clean for report in reports.values()):
        sys.exit(1)


def _anchors(root: Path, split: str, clips: DatasetMetadata) -> AnchorShards:
    """The anchors of one split, or of all if they are not split; damaged ones are left out and reported."""
    own = root / split
    return AnchorShards(own if holds_shards(own) else root, None, clips, checksums=True, on_bad_sample="skip")


def tell(root: Path) -> None:
    """Prints what was written, and the command that trains on it, or why no refiner can be trained on it."""
    console = terminal()
    written = {path.parent: DatasetMetadata.load(path.parent) for path in sorted(root.glob("**/dataset.json"))}
    for split, metadata in written.items():
        console.print(f"{split}: {metadata.num_samples} samples of {list(metadata.latent_shape)}", soft_wrap=True)
    if any(metadata.latent_shape[1] < 2 for metadata in written.values()):
        console.print("no refiner can be trained on clips of 1 frame (cut.size, cut.buckets)", soft_wrap=True)
        return
    overrides = [*folders_of_options(), "+experiment=gt_keyframes", "data=wan_synth", f"data.root={root}"]
    if any(metadata.codec.get("temporal_factor") != 1 for metadata in written.values()):
        overrides.append("matching=motion_hypotheses")  # motion cannot be matched in pixels
    if short := [length for metadata in written.values() if (length := metadata.latent_shape[1]) <= 8]:
        overrides.append(f"schedule.counts={fewer_keyframes(min(short))}")
    console.print(f"next: {next_command('train', *overrides)}", soft_wrap=True)


def fewer_keyframes(num_frames: int) -> str:
    """Counts of keyframes for clips that are too short for those of ``+experiment=gt_keyframes``, as an override."""
    return "[" + ",".join(map(str, sorted({max(2, round(0.6 * num_frames)), 2}, reverse=True))) + "]"


def make_anchors(cfg: DictConfig, source: AnchorSource) -> None:
    """Proposals of keyframes (anchors) for a data set, from a source."""
    clips = build(cfg.data, anchors=build(cfg.data.anchors, source=source)).open()
    clips.anchors()  # makes what is missing
    root = Path(cfg.data.anchors.root)
    console = terminal()
    for split in sorted(path.parent for path in root.glob("*/dataset.json")):
        console.print(f"{split}: anchors of {DatasetMetadata.load(split).num_samples} clips", soft_wrap=True)
    node = cfg.get("anchor_source") or cfg.data.anchors.source
    partial = node.get("frames") is not None or "schedule" in node
    console.print(f"next: {training_command(given(), root, partial)}", soft_wrap=True)


def training_command(overrides: list[str], root: Path, partial: bool) -> str:
    """The command that trains with the anchors in ``root``, on the data set that ``overrides`` selected.

    ``partial`` anchors do not cover every keyframe, so the command allows true keyframes for the rest in validation.
    """
    named = ("data", "paths.", "hydra.searchpath", "--config-dir")
    kept = [o for o in overrides if o.lstrip("+").startswith(named) and not o.startswith("data.anchors.")]
    found = [f"data.anchors.root={root}", "data.anchors.source=null"]
    found += ["scheduled_sampling.uncovered=truth"] if partial else []
    return next_command("train", "+experiment=phase1_keyframes", *kept, *found)
