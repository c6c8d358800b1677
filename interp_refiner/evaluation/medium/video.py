"""Videos, judged on decoded pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from interp_refiner.core import BadValue, Clip, Corrupted, per_frame
from interp_refiner.data.codec import Codec, contact_sheet
from interp_refiner.evaluation.measures import Bootstrap, FrechetByLevel, Realism, ScoreTable, blurred
from interp_refiner.evaluation.medium.medium import Figures, Medium, Table, Tables, Versions


@final
class Video(Medium):
    """Latents ``[c, t, h, w]`` of a codec.

    Where the codec is no true decoder, realism and Frechet distance are those of the latents, there are no scores of
    pixels, and pictures carry the codec's caveat.

    Args:
        codec: of the latents.
    """

    def __init__(self, codec: Codec):
        self.codec, self.caveat, self.decodes = codec, codec.caveat, not codec.caveat
        self.measured_in = "pixels" if self.decodes else "latents (their codec has no decoder here)"

    def check(self, latent_shape: Sequence[int], context_shape: Sequence[int] | None) -> None:
        if len(latent_shape) != 4:
            raise BadValue("medium", "video", f"one for clips {list(latent_shape)}, such as medium=maze")

    def to(self, device: torch.device | str) -> "Video":
        self.codec.to(device)
        return self

    def blurred(self, clean: Float[Tensor, "b c t h w"], known: Bool[Tensor, "b t"]) -> Float[Tensor, "b c t h w"]:
        """Averaged over 3x3 pixels, or over 3x3 latent positions without a true decoder."""
        if not self.decodes:
            return blurred(clean, known)
        video = self.codec.decode(clean)
        nowhere = torch.zeros(video.shape[0], video.shape[2], dtype=torch.bool, device=known.device)
        return torch.where(per_frame(known, clean), clean, self.codec.encode(blurred(video, nowhere)))

    def tables(
        self, methods: list[str], baselines: list[str], bootstrap: Bootstrap, chosen: Mapping[str, Table]
    ) -> Tables:
        if chosen and not self.decodes:
            allowed = "none: they are measured on decoded pixels, and the latents' codec has no decoder here"
            raise BadValue("metric", list(chosen), allowed)
        return VideoTables(self, methods, baselines, bootstrap, chosen)

    def sheet(self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip, title: str) -> Image.Image:
        videos, keyframes = self.videos(versions, known, clip)
        return contact_sheet(videos, list(versions), keyframes, self.titled(title))

    @torch.no_grad()
    def videos(
        self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip
    ) -> tuple[list[Float[Tensor, "3 _n h w"]], Bool[Tensor, " _n"]]:
        """Decodes all versions alike, the first setting the colours of a preview."""
        fitted = self.codec.fitted_to(next(iter(versions.values())))
        videos = [fitted.decode(version)[0] for version in versions.values()]
        return videos, known[torch.tensor(fitted.latent_frame(len(known)))]


@final
class VideoTables(Tables):
    """PSNR, SSIM, realism, Frechet distance on random features, and what else is chosen.

    Args:
        video: the medium.
        methods, baselines, bootstrap, chosen: see :meth:`Medium.tables`.
    """

    def __init__(
        self,
        video: Video,
        methods: list[str],
        baselines: list[str],
        bootstrap: Bootstrap,
        chosen: Mapping[str, Table],
    ):
        self.video = video
        self.scores = ScoreTable(methods, baselines, bootstrap=bootstrap)
        self.realism = Realism(methods, bootstrap)
        self.frechet = FrechetByLevel(methods, baselines)
        self.chosen = {n: t(methods=methods, baselines=baselines, bootstrap=bootstrap) for n, t in chosen.items()}

    def update(
        self,
        clips: Mapping[str, Float[Tensor, "n c t h w"]],
        corrupted: Corrupted,
        level: int,
        sample: Int[Tensor, " n"],
    ) -> None:
        known, levels = corrupted.known[: len(sample)], corrupted.level[: len(sample)]
        pixels = dict(clips)
        frames = list(range(known.shape[1]))
        if self.video.decodes:
            pixels = {method: self.video.codec.decode(clip) for method, clip in clips.items()}
            frames = self.video.codec.latent_frame(known.shape[1])
        truth, latent_frame = pixels["truth"], torch.tensor(frames, device=known.device)
        for table in (self.scores, *self.chosen.values()) if self.video.decodes else ():
            table.to(known.device).update(pixels, truth, known, levels, sample, latent_frame)
        self.realism.to(known.device).update(pixels, truth, known[:, latent_frame], levels, sample)
        self.frechet.to(known.device).update(pixels, truth, known, levels, sample)

    def compute(self) -> Figures:
        figures: dict[str, Any] = {"realism": self.realism.compute(), "frechet": self.frechet.compute()}
        if self.video.decodes:
            figures["scores"] = self.scores.compute()
        return figures | {"chosen": {name: table.compute() for name, table in self.chosen.items()}}
