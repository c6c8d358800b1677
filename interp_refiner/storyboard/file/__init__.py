"""The content of a storyboard file: keyframes, their times, pictures and videos."""
