"""What a storyboard file says: keyframes, their times, pictures and videos."""
