"""The model card of a saved pipeline."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.evaluator.methods import NOISE
from interp_refiner.evaluation.records.markdown import markdown_table

KINDS = {"Wan": "WanTransformer3DModel", "LTX": "LTXVideoTransformer3DModel"}  # diffusers class by backbone
TERMS = ("license", "base_model")  # as the hub calls them
CARD = """\
---
library_name: interp_refiner
pipeline_tag: image-to-video
{terms}---

# {title}

A video refiner: keyframes are interpolated (`{interpolator}`), and the model turns the interpolation into a video.
Hard keyframes stay exactly as they are.

```python
from interp_refiner.storyboard import Keyframe, RefinerPipeline

pipe = RefinerPipeline.from_pretrained("<this folder>").to("cuda")
first, last = Keyframe(image=a, time=0), Keyframe(image=b, time="100%")
video = pipe("{prompt}", keyframes=[first, last]).frames
```

or `python -m interp_refiner.sample checkpoint=<this folder> storyboard=board.yaml output=out.mp4`, or by diffusers:
`DiffusionPipeline.from_pretrained("<this folder>", custom_pipeline="pipeline", trust_remote_code=True)`.

| | |
|---|---|
{facts}

{evaluation}{generator}{files}{text}
"""
GENERATOR = """\
## Keyframes from a prompt

`keyframes/` is a keyframe generator: `pipe("{prompt}")` makes {count} or more keyframes of a clip by flow matching,
and the refiner makes the frames between them.

| | |
|---|---|
{facts}

"""
GENERATOR_CARD = """\
---
library_name: interp_refiner
pipeline_tag: text-to-video
{terms}---

# interp_refiner: {title}

A keyframe generator (phase 1), for a refiner of the same clips. It makes {count} or more keyframes of a clip from a
prompt, by flow matching, in addition to given keyframes.

`python -m interp_refiner.sample checkpoint=<refiner> keyframes=<this folder> prompt="..." output=out.mp4`

| | |
|---|---|
{facts}

{files}
"""
DIFFUSERS = """\
`transformer/` is diffusers' `{kind}`; on its own it lacks the layers that condition it on keyframes, which
are in `refiner.safetensors`."""
OTHER = "All weights are in `refiner.safetensors`."
EVALUATION = """\
## Evaluation

{clips} held-out clips, missing frames only, with 95% intervals. `{own}` is the model's own interpolation. `{noise}` is
that interpolation with noise as large as what the sample adds to it. Command: `{command}`.

{table}
"""


def model_card(index: Mapping[str, Any], generator: Mapping[str, Any] | None = None) -> str:
    """A README in the style of the Hugging Face hub from the content of ``model_index.json``, and of a generator's."""
    parts, trained = index["components"], index["trained"]
    told = "what the video shows"
    facts = {
        "clips it was trained on": _clips(index),
        "objective": _class(parts["objective"]),
        "noise": f"{_class(parts['corruption']['noise'])}, sigma {parts['corruption']['sigma']:g}",
        "sampler": _sampler(parts["sampler"]),
        "codec": index["spec"]["codec"].get("name") or _name(parts["codec"]),
        "text encoder": _text_encoder(index["spec"], parts.get("text")),
        **trained,
    }
    folder = (parts.get("text") or {}).get("folder")
    return CARD.format(
        terms=terms(trained),
        title=f"interp_refiner: {trained.get('experiment', 'refiner')}",
        interpolator=_class(parts["corruption"]["interpolator"]),
        prompt="" if not parts.get("text") else told,
        facts=_rows(facts),
        evaluation=evaluated(index.get("evaluation")),
        generator="" if generator is None else GENERATOR.format(**_generator(generator), prompt=told),
        files=DIFFUSERS.format(kind=KINDS[kind]) if (kind := _class(parts["backbone"])) in KINDS else OTHER,
        text=f" The text encoder is not in this folder: it is read from `{folder}`." if folder else "",
    )


def figures(evaluation: Evaluation, counts: Sequence[int]) -> dict[str, Any]:
    """The results of an evaluation for a model card, as plain values.

    Args:
        evaluation: of the model.
        counts: number of keyframes at levels 1, 2 and so on.
    """
    own = evaluation.baselines[-1]
    methods = [*evaluation.named("estimate", "baseline"), *[NOISE] * (NOISE in evaluation.methods)]
    columns = evaluation.brief(own)
    rows = [
        [
            str(counts[level - 1]),
            method,
            *(c.measure.text(evaluation.figure(c, method, level=level), interval=c.told) for c in columns),
        ]
        for level in evaluation.levels
        for method in methods
    ]
    about, headings = evaluation.about, [column.heading for column in columns]
    about = {"clips": about.get("clips"), "command": anywhere(about.get("command", ""))}
    return about | {"own": own, "headings": headings, "rows": rows}


def anywhere(command: str) -> str:
    """A command of ``evaluate`` without local folders."""
    words = [word for word in shlex.split(command) if not word.startswith("hydra.")]
    return " ".join("checkpoint=<run>" if word.startswith("checkpoint=") else word for word in words)


def evaluated(stored: Mapping[str, Any] | None) -> str:
    """The card's section about :func:`figures`; empty without an evaluation."""
    if stored is None:
        return ""
    numbers = [True, False, *[True] * len(stored["headings"])]
    table = markdown_table(["keyframes", "", *stored["headings"]], stored["rows"], numbers)
    named = {name: stored[name] for name in ("clips", "own", "command")}
    return EVALUATION.format(**named, noise=NOISE, table=table)


def terms(trained: Mapping[str, Any]) -> str:
    """The card's header lines for the hub: licence and base model."""
    return "".join(f"{name}: {trained[name]}\n" for name in TERMS if trained.get(name) is not None)


def _name(node: Mapping[str, Any]) -> str:
    """The name that the data set declares, else the class."""
    return node.get("name") or _class(node)


def _text_encoder(spec: Mapping[str, Any], node: Mapping[str, Any] | None) -> str:
    """The text encoder of the prompts, as the data set declares it."""
    return spec["text"].get("name") or _name(node) if node else "none: prompt embeddings are zero"


def generator_card(index: Mapping[str, Any]) -> str:
    """The card of a keyframe generator, from the content of its ``model_index.json``."""
    files = (
        "`transformer/` is diffusers' `WanTransformer3DModel`."
        if "pretrained" in index["components"]["network"]
        else ""
    )
    title = index["trained"].get("experiment", "keyframes")
    return GENERATOR_CARD.format(terms=terms(index["trained"]), title=title, **_generator(index), files=files)


def _generator(index: Mapping[str, Any]) -> dict[str, Any]:
    parts = index["components"]
    facts = {
        "clips it was trained on": _clips(index),
        "flow": _class(parts["flow"]),
        "sampler": f"{_class(parts['sampler'])}, {parts['sampler'].get('steps')} steps",
        "guidance": parts["sampler"].get("guidance"),
        "choice": _choice(parts.get("choice", {})),
        "text encoder": index["spec"]["text"].get("name"),
        **index["trained"],
    }
    return {"facts": _rows(facts), "count": index["count"]}


def _choice(node: Mapping[str, Any]) -> str | None:
    """How a generator chooses among its samples; None if it takes the first."""
    scorer = node.get("scorer")
    return None if scorer is None else f"best of {node['candidates']} samples by {_class(scorer)}"


def _rows(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value is not None)


def _clips(index: Mapping[str, Any]) -> str:
    (c, t, y, x), fps = index["spec"]["latent_shape"], index["spec"]["fps"]
    rate = f"{fps:g} pixel frames per second" if fps else "without a declared frame rate"
    return f"{t} latent frames of {c} x {y} x {x}, {rate}"


def _sampler(node: Mapping[str, Any]) -> str:
    """The class, with its views if they are not one, and its strength if it is not 1: ``OneJump, MirroredViews``."""
    views, strength = node.get("views"), node.get("strength", 1)
    several = [] if views is None or _class(views) == "OneView" else [_class(views)]
    return ", ".join([_class(node), *several, *[f"strength {strength:g}"] * (strength != 1)])


def _class(node: Mapping[str, Any]) -> str:
    """The class of a component, with its inner component: ``InPixels of MotionCompensated``."""
    name = node["_target_"].rpartition(".")[2]
    return f"{name} of {_class(node['inner'])}" if isinstance(node.get("inner"), Mapping) else name
