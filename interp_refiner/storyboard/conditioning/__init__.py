"""The inputs of a video: prompts, encoded keyframes, generated keyframes."""
