"""The model card of a saved pipeline."""

from collections.abc import Mapping
from typing import Any

FPS = 8.0  # pixel frames a second, where the data set does not declare them
CARD = """\
---
library_name: interp_refiner
pipeline_tag: image-to-video
---

# {title}

A video refiner: keyframes are interpolated (`{interpolator}`), and the model turns the interpolation into a video.
Hard keyframes stay exactly as they are.

```python
from interp_refiner.storyboard import Keyframe, RefinerPipeline

pipe = RefinerPipeline.from_pretrained("<this folder>").to("cuda")
video = pipe("{prompt}", keyframes=[Keyframe(image=first, time=0), Keyframe(image=last, time="100%")]).frames
```

or `python -m interp_refiner.sample checkpoint=<this folder> storyboard=board.yaml output=out.mp4`.

| | |
|---|---|
{facts}

`transformer/` is diffusers' `WanTransformer3DModel`; on its own it lacks what tells it about keyframes, which is in
`refiner.safetensors`.{text}
"""


def model_card(index: Mapping[str, Any]) -> str:
    """A README in the style of the Hugging Face hub from the content of ``model_index.json``."""
    parts, trained = index["components"], index["trained"]
    (c, t, y, x), fps = index["spec"]["latent_shape"], index["spec"]["fps"] or FPS
    facts = {
        "clips it was trained on": f"{t} latent frames of {c} x {y} x {x}, {fps:g} pixel frames a second",
        "objective": _class(parts["objective"]),
        "noise": f"{_class(parts['corruption']['noise'])}, sigma {parts['corruption']['sigma']:g}",
        "sampler": _class(parts["sampler"]),
        "codec": _name(parts["codec"]),
        "text encoder": _name(parts["text"]) if parts.get("text") else "none: prompt embeddings are zero",
        **trained,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value is not None)
    folder = (parts.get("text") or {}).get("folder")
    return CARD.format(
        title=f"interp_refiner: {trained.get('experiment', 'refiner')}",
        interpolator=_class(parts["corruption"]["interpolator"]),
        prompt="" if not parts.get("text") else "what the video shows",
        facts=rows,
        text=f" The text encoder is not in this folder: it is read from `{folder}`." if folder else "",
    )


def _name(node: Mapping[str, Any]) -> str:
    """What a data set declared it as, or its class."""
    return node.get("name") or _class(node)


def _class(node: Mapping[str, Any]) -> str:
    """The class of a component, and what it works with inside: ``InPixels of MotionCompensated``."""
    name = node["_target_"].rpartition(".")[2]
    return f"{name} of {_class(node['inner'])}" if isinstance(node.get("inner"), Mapping) else name
