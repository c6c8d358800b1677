"""A keyframe source without a network, for tests of pipelines."""

import copy

from interp_refiner.core import per_sample
from interp_refiner.model.keyframes import KeyframeSource


class Told(KeyframeSource):
    """Noise of every clip's own draws, moved by the prompt; given keyframes as they are. Notes what it is asked."""

    guided = True

    def __init__(self, steps=4, takes_given=True):
        self.steps, self.takes_given, self.requests = steps, takes_given, []

    def __call__(self, request, draws):
        self.requests.append(request)
        made = draws.normal("keyframes", request.latents)
        if request.text is not None:
            made = made + per_sample(request.text.mean((1, 2)), made)
        if request.negative is not None:
            made = made - per_sample(request.negative.mean((1, 2)), made)
        return request.keep_given(made)

    def evaluations(self, free):
        return 2 * self.steps

    def __repr__(self):
        return f"told(steps={self.steps})"

    def of_steps(self, steps):
        made = copy.copy(self)
        made.steps = steps
        return made

    def to(self, device):
        return self
