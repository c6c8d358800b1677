"""The probe's reading of directions from known places of an object."""

import pytest
import torch

from interp_refiner.data.world import DIRECTIONS
from interp_refiner.evaluation.caption_probe import CaptionProbe

PLACES = {1: (5, 2), 2: (5, 4), 3: (1, 4)}  # y and x of the object in keyframes 1 to 3; it is not in keyframes 0 and 4


@pytest.mark.parametrize(("net", "direction"), [(False, "right"), (True, "up-right")])
def test_the_direction_is_that_of_the_first_gap_or_of_the_whole_path(net: bool, direction: str):
    torch.manual_seed(0)
    places = -12 + torch.randn(1, 4, 5, 8, 8)
    for frame, (y, x) in PLACES.items():
        places[0, 2, frame, y, x] = 12.0
    logits = CaptionProbe(net=net)._direction(places)[0, 2]
    assert DIRECTIONS[int(logits.argmax())] == direction
    assert logits.max() > 2.5  # the sharpness is 3
