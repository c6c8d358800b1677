"""Evaluates a storyboard of held-out frames on the frames between its keyframes.

    python experiments/city/storyboard.py <run folder>

PSNR and SSIM of linear interpolation, of the model's own interpolation and of its refinement, over the frames between
the keyframes of ``board.yaml``; intervals by bootstrap over these frames.
"""

import sys
from pathlib import Path

from interp_refiner.assemble import load_pipeline
from interp_refiner.data.codec import read_image
from interp_refiner.evaluation.measures import Bootstrap, psnr, ssim
from interp_refiner.forward.interpolator import Linear
from interp_refiner.storyboard import load_storyboard
from interp_refiner.storyboard.file.media import as_video
from interp_refiner.storyboard.sampling.video import read_board

BOARD = Path(__file__).with_name("board.yaml")


def main() -> None:
    """Prints the table."""
    board = load_storyboard(BOARD)
    pipe = load_pipeline(sys.argv[1])
    request, _ = read_board(pipe, board)
    made = pipe.make(request, output_type="pt")
    rows = {"its own interpolation": pipe.decode(made.interpolation), "refined": made.frames}
    pipe.corruption.interpolator = Linear()
    rows = {"linear": pipe.interpolate(request.keyframes, request.size), **rows}
    missing = ~made.known[0]
    truth = as_video([read_image(file)[0] for file in sorted(board.files[0].parent.glob("*.png"))])[None]
    error = {name: (video[None] - truth).square().mean((0, 1, 3, 4))[missing] for name, video in rows.items()}
    weights = Bootstrap().weights(int(missing.sum())).float()
    print("| | MSE / linear | PSNR of the mean MSE, dB | mean PSNR, dB | SSIM |\n|---|---|---|---|---|")
    for name, video in rows.items():
        mean = error[name].mean()
        low, high = Bootstrap().interval((weights @ error[name]) / (weights @ error["linear"]))
        cells = [
            f"{mean / error['linear'].mean():.3f} [{low:.3f}, {high:.3f}]",
            f"{-10 * mean.log10():.2f}",
            f"{psnr(video[None], truth)[0, missing].mean():.2f}",
            f"{ssim(video[None], truth)[0, missing].mean():.4f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
