"""The layout of the demo page, in gradio; :class:`Studio` has its functions."""

import base64
import html
import io
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from interp_refiner.core import BadValue
from interp_refiner.data.codec import read_image
from interp_refiner.storyboard.page.studio import CONTRACT, Number, Pinned, Studio, pinned, storyboard
from interp_refiner.storyboard.plan.plan import VideoPlan

TITLE = "Storyboard to video"
INTRO = "Drop pictures and place them in time. Every change updates the interpolation; the button refines it."
HINT = "Drop at least one picture."
GENERATES = "A prompt without pictures is enough, too: the button generates its keyframes."
OR_A_PROMPT = "Drop a picture, or write what the video shows and press Refine."
PICTURES = [".png", ".jpg", ".jpeg", ".webp"]
# fonts of the system: the page loads nothing from elsewhere
THEME = gr.themes.Soft(
    primary_hue="orange", neutral_hue="zinc", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    block_title_background_fill="transparent",
    block_title_padding="0",
    block_title_text_color="*neutral_600",
    block_title_text_weight="500",
    block_label_background_fill="*neutral_50",
    block_label_text_color="*neutral_600",
    block_label_text_weight="500",
)
CSS = """
.gradio-container { width: 100% !important; max-width: min(1240px, 100vw) !important; margin: 0 auto !important }
.gradio-container main { width: 100% !important }
.said { overflow-wrap: anywhere; min-height: 1.4em; color: var(--body-text-color-subdued) }
.said.refused { color: #b42318; font-weight: 600 }
.timeline { position: relative; height: 92px; margin: 4px 30px 0 }
.timeline::before { content: ""; position: absolute; left: -30px; right: -30px; top: 58px; height: 3px;
  border-radius: 2px; background: var(--border-color-primary) }
.timeline figure { position: absolute; top: 0; margin: 0; width: 60px; transform: translateX(-50%); text-align: center }
.timeline img { display: block; width: 100%; height: 40px; object-fit: cover; border-radius: 4px;
  border: 2px solid #f97316 }
.timeline .proposal img { border-style: dashed }
.timeline figure::after { content: ""; position: absolute; left: 50%; top: 53px; width: 12px; height: 12px;
  margin-left: -6px; border-radius: 50%; background: #f97316 }
.timeline .proposal::after { background: var(--body-background-fill); box-shadow: inset 0 0 0 2px #f97316 }
.timeline figcaption { margin-top: 28px; font-size: 11px; white-space: nowrap }
.gradio-container .column { min-width: min(340px, 100%) !important; max-width: 100% }
.gradio-container .main, .gradio-container main, .gradio-container main > .column { min-width: 0 !important }
.pin { flex-wrap: wrap; gap: 6px !important }
.pin .block { overflow: hidden !important }
.pin .min_value, .pin .max_value { display: none }
.pin input[type=number] { width: 64px }
.pin > .thumb { flex: 0 0 76px !important; min-width: 0 !important; align-self: center }
.thumb img { width: 76px; height: 44px; object-fit: cover; border-radius: 4px; background: var(--neutral-200) }
.thumb figcaption { font-size: 11px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.thumb figure { margin: 0 }
#sheet { overflow-x: auto }
#sheet * { justify-content: flex-start }
#sheet img { min-width: 760px; margin-top: 34px }
"""
# for files that are not pictures: an empty image instead of the browser's broken-image icon
BLANK = "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'/%3E"


def open_page(studio: Studio, host: str, port: int | None, seed: int = 0) -> tuple[gr.Blocks, str]:
    """Serves the page in the background; returns it and its address.

    Raises:
        BadValue: the port is taken, or the host is no address of this machine.
    """
    if port is not None and not 0 < port < 65536:
        raise BadValue("port", port, "1 to 65535, or null")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host.strip("[]"), 0))
    except OSError as error:
        raise BadValue("host", host, f"an address of this machine, such as 127.0.0.1 or 0.0.0.0 ({error})") from error
    page = build_page(studio, seed)
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            allowed_paths=[str(studio.folder)],
            theme=THEME,
            css=CSS,
        )
    except OSError as error:
        raise BadValue("port", port, "a port that is free, or null") from error
    return page, url


def build_page(studio: Studio, seed: int = 0) -> gr.Blocks:
    """Pictures and settings on the left, videos on the right, results below."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown(f"# {TITLE}\n{INTRO}{' ' + GENERATES if studio.generates else ''}")
        pins, dropped = gr.State([]), gr.State([])
        with gr.Row():
            with gr.Column(scale=5, min_width=340):
                files = gr.File(label="pictures", file_count="multiple", file_types=PICTURES, height=130)
                timeline = gr.HTML(timeline_html([], None), padding=False)
                _controls(pins, dropped)
                clip, how = _settings(studio, seed)
            with gr.Column(scale=6, min_width=340):
                said = gr.HTML(message(hint(studio)), padding=False)
                interpolation = _video("interpolation")
                button = gr.Button("Refine", variant="primary", elem_id="refine")
                refined = _video("refined")
                contract = gr.Dataframe(
                    headers=list(CONTRACT), label="keyframe contract", interactive=False, elem_id="contract",
                    visible=False, buttons=[],
                )  # fmt: skip
        sheet = gr.Image(
            show_label=False, format="png", interactive=False, elem_id="sheet", visible=False,
            buttons=["download", "fullscreen"],
        )  # fmt: skip
        files.change(drop, [files, pins], [pins, dropped], show_progress="hidden")
        gr.on(
            [pins.change, *(setting.change for setting in clip[:2])],
            previewing(studio),
            [pins, *clip],
            [interpolation, timeline, said],
            show_progress="hidden",
            trigger_mode="always_last",
        )
        button.click(
            refining(studio),
            [pins, *clip, *how],
            [interpolation, refined, sheet, contract, said],
            show_progress_on=[refined],
        )
    return page


def _video(label: str) -> gr.Video:
    return gr.Video(
        label=label, elem_id=label, autoplay=True, loop=True, interactive=False, height=264, buttons=["download"]
    )


def _settings(studio: Studio, seed: int) -> tuple[list[Any], list[Any]]:
    """Length, frames per second and prompt; sampler, steps and seed."""
    with gr.Row():
        frames = gr.Number(studio.num_frames, label="frames", precision=0, minimum=1, min_width=90, elem_id="frames")
        fps = gr.Number(studio.pipeline.config.fps, label="frames per second", minimum=0.1, min_width=90)
    prompt = gr.Textbox(label="prompt", placeholder="bright circle moving right")
    with gr.Row():
        names = list(studio.samplers)
        sampler = gr.Dropdown(names, value=studio.own_sampler, label="sampler", min_width=160)
        steps = gr.Number(4, label="steps (bridge)", precision=0, minimum=1, min_width=90)
        number = gr.Number(seed, label="seed", precision=0, min_width=90)
    return [frames, fps, prompt], [sampler, steps, number]


def _controls(pins: gr.State, dropped: gr.State) -> None:
    """Time and strength of every picture; redrawn when pictures are added or removed."""

    @gr.render(inputs=[pins], triggers=[dropped.change])
    def controls(there: list[Pinned]) -> None:
        for index, pin in enumerate(there):
            with gr.Row(elem_classes="pin", equal_height=True):
                gr.HTML(thumbnail(pin), elem_classes="thumb", padding=False)
                percent = gr.Slider(
                    0, 100, pin.percent, step=0.1, label="time %", min_width=120, interactive=True, buttons=[]
                )
                hard = gr.Checkbox(pin.strength is None, label="keep exactly", min_width=100, interactive=True)
                strength = gr.Slider(
                    0, 1, 0.5 if pin.strength is None else pin.strength, step=0.05, label="strength", min_width=120,
                    interactive=True, buttons=[], visible=pin.strength is not None,
                )  # fmt: skip
            gr.on(
                [percent.input, hard.input, strength.input],
                pinning(index),
                [percent, hard, strength, pins],
                [pins, strength],
                show_progress="hidden",
                concurrency_id="timeline",  # one change at a time, so that none is lost
                concurrency_limit=1,
            )


def drop(files: list[str] | None, pins: list[Pinned]) -> tuple[list[Pinned], list[str]]:
    """The timeline after pictures were added or removed, and the list of its pictures."""
    there = pinned(files or [], pins)
    return there, [pin.image for pin in there]


def pinning(index: int) -> Callable[[Number, bool, Number, list[Pinned]], tuple[list[Pinned], Any]]:
    """The event handler of one picture's controls."""

    def pin(percent: Number, hard: bool, strength: Number, pins: list[Pinned]) -> tuple[list[Pinned], Any]:
        moved = replace(pins[index], percent=percent, strength=None if hard else strength)
        return [*pins[:index], moved, *pins[index + 1 :]], gr.update(visible=not hard)

    return pin


def previewing(studio: Studio) -> Callable:
    """Shows the interpolation and the timeline, or a one-line error."""

    def preview(pins: list[Pinned], frames: int | None, fps: Number | None, prompt: str, request: gr.Request) -> tuple:
        if not pins:
            return None, timeline_html([], None), message(hint(studio))
        try:
            made = studio.interpolate(storyboard(pins, frames, fps, prompt), str(request.session_hash))
        except BadValue as error:
            return gr.skip(), gr.skip(), refusal(error, pins)
        return str(made.video), timeline_html(pins, made.plan), message("; ".join(made.notes))

    return preview


def refining(studio: Studio) -> Callable:
    """Shows the refined video, its contact sheet and the keyframe contract, or a one-line error."""

    def refine(
        pins: list[Pinned], frames: int | None, fps: Number | None, prompt: str, sampler: str, steps: int | None,
        seed: int | None, request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008 - how gradio finds it
    ) -> tuple:  # fmt: skip
        nothing = (gr.skip(), gr.skip(), gr.skip(), gr.skip())
        if not pins and not (studio.generates and prompt.strip()):
            return *nothing, message(hint(studio), refused=True)
        try:
            made = studio.refine(
                storyboard(pins, frames, fps, prompt), sampler, steps or 1, seed or 0, str(request.session_hash),
                lambda done, of: progress((done, of), desc="refining", unit="steps"),
            )  # fmt: skip
        except BadValue as error:
            return *nothing, refusal(error, pins)
        rows = [[Path(name).name, *rest] for name, *rest in made.contract]
        return (
            str(made.interpolation),
            str(made.video),
            gr.update(value=made.sheet, visible=True),
            gr.update(value=rows, visible=True),
            message("; ".join(made.notes)),
        )

    return refine


def hint(studio: Studio) -> str:
    """The hint on an empty page."""
    return OR_A_PROMPT if studio.generates else HINT


def message(text: str, refused: bool = False) -> str:
    """The page's message line."""
    return f'<div id="said" class="said{" refused" if refused else ""}">{html.escape(text)}</div>'


def refusal(error: BadValue, pins: list[Pinned]) -> str:
    """The message for a mistake, with the original names of the dropped pictures."""
    text = str(error)
    for pin in pins:
        text = text.replace(pin.image, Path(pin.image).name)
    return message(text, refused=True)


def timeline_html(pins: list[Pinned], plan: VideoPlan | None) -> str:
    """The pictures at their times, with frame and second below each; proposals are dashed."""
    figures = []
    for placed in plan.placed if plan else []:
        pin, last = pins[placed.index], max(1, plan.grid.num_frames - 1) if plan else 1
        kind = "" if pin.strength is None else ' class="proposal"'
        caption = f"{placed.frame} · {placed.frame / plan.fps:.2g}s" if plan else ""
        figures.append(
            f'<figure{kind} style="left:{100 * placed.frame / last:.2f}%"><img src="{picture_uri(pin.image)}" '
            f'alt="{html.escape(Path(pin.image).name)}"><figcaption>{caption}</figcaption></figure>'
        )
    return f'<div id="timeline" class="timeline">{"".join(figures)}</div>'


def thumbnail(pin: Pinned) -> str:
    """The small picture beside its controls, with its name."""
    name = html.escape(Path(pin.image).name)
    return f'<figure><img src="{picture_uri(pin.image)}" alt=""><figcaption>{name}</figcaption></figure>'


def picture_uri(file: str, side: int = 160) -> str:
    """A small version of an image file as a data URI; an empty image if the file is not an image."""
    try:
        small, _ = read_image(Path(file))
    except BadValue:
        return BLANK
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
