"""The forward process: keyframe plans, interpolators, replaced keyframes, noise."""
