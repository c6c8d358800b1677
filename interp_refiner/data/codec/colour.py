"""Converts colours of pictures and videos to sRGB.

"Light" is linear RGB in units of white. Primaries and transfer functions are identified by the numbers of ITU-T H.273,
which files and ffmpeg use.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8, UInt16

XY = tuple[float, float]
D65: XY = (0.3127, 0.3290)
BT709: tuple[XY, XY, XY] = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
BT601_525: tuple[XY, XY, XY] = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
ADOBE_RGB: tuple[XY, XY, XY] = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
PRIMARIES: dict[int, tuple[str, tuple[XY, XY, XY]]] = {
    1: ("BT.709", BT709),
    5: ("BT.601 (625 lines)", ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060))),
    6: ("BT.601 (525 lines)", BT601_525),
    7: ("SMPTE 240M", BT601_525),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
UNSPECIFIED = (0, 2, 3)  # reserved or unspecified
SDR = (*UNSPECIFIED, 1, 4, 6, 7, 11, 13, 14, 15)  # transfer functions that players treat as sRGB
LINEAR, PQ, HLG = 8, 16, 18
TRANSFERS = {
    5: "gamma 2.8", 8: "linear", 9: "logarithmic", 10: "logarithmic", 12: "BT.1361", 16: "PQ", 17: "SMPTE 428",
    18: "HLG",
}  # fmt: skip

WHITE = 203.0  # nits of white in HDR (ITU-R BT.2408)
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2  # nits of the display that HLG is shown on, and its system gamma (BT.2100)
LUMA_2020 = (0.2627, 0.6780, 0.0593)
KNEE = 0.8  # in units of white: HDR light below it is unchanged


def to_srgb(
    rgb: UInt16[np.ndarray, "*size 3"], primaries: int | Sequence[XY], transfer: int | float
) -> UInt8[np.ndarray, "*size 3"]:
    """16-bit RGB to 8-bit sRGB: inverts the transfer function, converts the primaries, and tone-maps HDR.

    Args:
        rgb: 0 to 65535.
        primaries: a number of ``PRIMARIES``, or the chromaticities of red, green and blue; white is D65.
        transfer: ``LINEAR``, ``PQ``, ``HLG``, another of ``SDR``, or a float: the exponent of a power law.
    """
    light = _light_of(transfer)[rgb]
    if transfer == HLG:  # scene to display: F_D = L_W Y_S^(gamma - 1) E (BT.2100)
        luminance = (light @ np.array(LUMA_2020, np.float32))[..., None]
        light = light * luminance ** np.float32(HLG_GAMMA - 1) * np.float32(HLG_PEAK / WHITE)
    light = light @ to_bt709(primaries).T.astype(np.float32)
    if transfer in (PQ, HLG):
        light = tone_mapped(light)
    return _srgb_of_light()[(light.clip(0, 1) * 65535).round().astype(np.uint16)]


def tone_mapped(light: Float[np.ndarray, "*size 3"]) -> Float[np.ndarray, "*size 3"]:
    """HDR mapped to 0..1: with ``m`` the largest channel, all three are multiplied by ``f(m) / m``, which keeps hues.

    ``f(m) = m`` up to the knee ``k``, then ``k + (1 - k) (1 - exp(-(m - k) / (1 - k)))``. White becomes 0.93 of the
    display's white, which is 247 of 255; 1000 nits become 255.
    """
    largest = light.max(-1, keepdims=True).clip(1e-6)
    above = (largest - KNEE).clip(0)
    shown = np.minimum(largest, KNEE) + (1 - KNEE) * -np.expm1(-above / (1 - KNEE))
    return light * (shown / largest)


def to_bt709(primaries: int | Sequence[XY]) -> Float[np.ndarray, "3 3"]:
    """The matrix from linear RGB of these primaries to linear RGB of BT.709, whose primaries are those of sRGB."""
    chromaticities = PRIMARIES[primaries][1] if isinstance(primaries, int) else primaries
    return np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(chromaticities)


def _to_xyz(primaries: Sequence[XY]) -> Float[np.ndarray, "3 3"]:
    """The matrix from linear RGB to XYZ: its columns are red, green and blue, scaled to the sum D65 with Y = 1."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = D65
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


@cache
def _light_of(transfer: int | float) -> Float[np.ndarray, "65536"]:
    """The light of every 16-bit value; for HLG the light of the scene, in 0..1."""
    v = np.arange(65536) / 65535
    if isinstance(transfer, float):
        light = v**transfer
    elif transfer == LINEAR:
        light = v
    elif transfer == PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = v ** (1 / m2)
        light = 10000 / WHITE * ((power - c1).clip(0) / (c2 - c3 * power)) ** (1 / m1)
    elif transfer == HLG:  # ARIB STD-B67
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
    else:
        light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _srgb_of_light() -> UInt8[np.ndarray, "65536"]:
    light = np.arange(65536) / 65535
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (value * 255).round().astype(np.uint8)
