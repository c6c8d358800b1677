import pytest
import torch

from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.text import CaptionEncoder, declared_text_encoder


def test_an_encoder_without_weights_is_built_in_the_declared_shape():
    spec = ClipSpec((4, 5, 4, 6), (6, 12), text=CaptionEncoder(6, 12).describe())
    encoder = declared_text_encoder(spec)
    assert torch.equal(encoder.encode(["dark ring"]), CaptionEncoder(6, 12).encode(["dark ring"]))


@pytest.mark.parametrize(("name", "reason"), [("umt5", "made by umt5, which needs weights"), ("", "does not declare")])
def test_says_what_to_type_where_a_folder_is_needed(name, reason):
    with pytest.raises(BadValue, match=f"text=declared: expected text=umt5 text.folder=<folder>.*{reason}"):
        declared_text_encoder(ClipSpec((4, 5, 4, 6), (512, 4096), text={"name": name}))
