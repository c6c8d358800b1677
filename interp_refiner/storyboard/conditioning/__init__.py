"""What the refiner's clips are made from: prompts, encoded keyframes, generated keyframes."""
