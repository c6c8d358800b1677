"""The demo page: its functions, one line for every mistake, and the whole page in a browser."""

import base64
import copy
import importlib.util
import io
import sys
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from interp_refiner.app import app
from interp_refiner.config import build
from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.model.sampler import Bridge, ClassifierFree, MirroredViews, OneJump
from interp_refiner.storyboard import Phase1
from interp_refiner.storyboard.page.studio import CONTRACT, FAST, Pinned, Studio, pinned, storyboard
from tests import browser
from tests.storyboard.conftest import pipe, program_config, run_folder  # noqa: F401 - fixtures
from tests.storyboard.sources import Told

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed: pip install 'interp_refiner[app]'"
)
needs_chromium = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
DEMO = Path(__file__).resolve().parents[3] / "experiments/demo/short"
PICTURES = [str(DEMO / f"{frame:02d}.png") for frame in range(0, 21, 5)]


@pytest.fixture
def studio(pipe, tmp_path):  # noqa: F811
    cfg = program_config("app", tmp_path, "checkpoint=none", "samplers.bridge.eta=0.5")
    samplers = {name: build(node) for name, node in cfg.samplers.items()}
    return Studio(pipe, samplers, tmp_path / "videos", upscale=2)


def test_a_distilled_model_is_one_more_choice_with_its_own_steps(pipe, tmp_path):  # noqa: F811
    asked = []

    class Distilled(type(pipe)):
        def make(self, *arguments, **named):
            asked.append(self.sampler)
            return super().make(*arguments, **named)

    fast = copy.copy(pipe)
    fast.__class__, fast.sampler = Distilled, OneJump()
    studio = Studio(pipe, {"bridge": Bridge(2)}, tmp_path, upscale=1, fast=fast)
    assert [*studio.samplers] == ["bridge", FAST]
    for name, evaluations in ((FAST, 1), ("bridge", 3)):
        done = []
        studio.refine(board(), name, 3, 0, "session", lambda step, of, done=done: done.append((step, of)))
        assert done[-1] == (evaluations + 1, evaluations + 1)
    assert len(asked) == 1


def frames_of(video: Path) -> int:
    with av.open(str(video)) as container:
        return len(list(container.decode(video=0)))


def board(**changes):
    pins = pinned(PICTURES)
    pins[2] = replace(pins[2], strength=0.5)
    return storyboard(pins, **{"frames": 21, "fps": 8.0, "prompt": "bright ring moving up", **changes})


def test_pictures_are_spread_and_stay_where_they_were_put():
    pins = pinned(PICTURES)
    assert [pin.percent for pin in pins] == [0, 25, 50, 75, 100]
    pins[1] = Pinned(PICTURES[1], 30, 0.7)
    assert pinned(PICTURES[:3], pins) == pins[:3]
    assert pinned(PICTURES[1:3] + PICTURES[4:], [pins[1]]) == [
        Pinned(PICTURES[1], 0, 0.7),
        Pinned(PICTURES[2], 50),
        Pinned(PICTURES[4], 100),
    ]
    assert pinned([PICTURES[3]]) == [Pinned(PICTURES[3], 0)]


def test_the_interpolation_is_that_of_the_refinement(studio):
    made = studio.interpolate(board(), "a")
    assert frames_of(made.video) == 21
    assert [placed.frame for placed in made.plan.placed] == [0, 5, 10, 15, 20]
    assert any("is 56x32, the video 24x16" in note for note in made.notes)
    keyframes, _ = board().read(24, 16, 8.0, 22)
    refined = studio.pipeline(keyframes=keyframes, output_type="latent")
    assert torch.equal(studio.pipeline.interpolate(keyframes), studio.pipeline.decode(refined.interpolation))


@pytest.mark.parametrize(("sampler", "estimates"), [("one_jump", 1), ("bridge", 3), ("hierarchical", 4)])
def test_the_refinement_keeps_what_is_hard_and_tells_its_progress(studio, sampler, estimates):
    seen = []
    made = studio.refine(board(), sampler, 3, 1, "a", lambda done, of: seen.append((done, of)))
    assert seen == [(n, estimates + 1) for n in range(1, estimates + 2)]
    assert frames_of(made.video) == 21
    assert [row[CONTRACT.index("exact")] for row in made.contract] == ["yes", "yes", "no", "yes", "yes"]
    assert 11 * 24 < made.sheet.width < 21 * made.sheet.height  # two rows of frames


def test_a_prompt_without_pictures_becomes_a_video(studio):
    with pytest.raises(BadValue, match=r"keyframes=\[\]: expected a list of at least one keyframe.*, or a prompt"):
        storyboard([], 21, 8.0, "")
    asked = storyboard([], 31, 8.0, "bright ring moving up")
    with pytest.raises(BadValue, match=r"keyframes=\[\]: expected at least one keyframe"):
        studio.refine(asked, "one_jump", 1, 0, "a", lambda done, of: None)
    assert not studio.generates
    studio.pipeline = studio.pipeline.with_keyframes(Phase1(Told(), studio.pipeline.config.spec))
    assert studio.generates
    made = studio.refine(asked, "one_jump", 1, 0, "a", lambda done, of: None)
    assert frames_of(made.video) == frames_of(made.interpolation) == 31
    assert {row[CONTRACT.index("kind")] for row in made.contract} == {"generated"}


@needs_gradio
def test_the_button_asks_for_pictures_or_for_a_prompt(studio):
    import gradio as gr

    from interp_refiner.storyboard.page.page import HINT, OR_A_PROMPT, previewing, refining

    def pressed(prompt):
        request = gr.Request(session_hash="a")
        return refining(studio)([], 21, 8.0, prompt, "one_jump", 1, 0, request, gr.Progress())

    assert HINT in pressed("bright ring moving up")[-1]
    studio.pipeline = studio.pipeline.with_keyframes(Phase1(Told(), studio.pipeline.config.spec))
    assert OR_A_PROMPT in pressed(" ")[-1]
    assert OR_A_PROMPT in previewing(studio)([], 21, 8.0, "a", gr.Request(session_hash="a"))[-1]
    interpolation, refined, *_, said = pressed("bright ring moving up")
    assert frames_of(Path(interpolation)) == frames_of(Path(refined)) == 21
    assert "refused" not in said


def test_settings_of_a_sampler_stay_when_steps_are_chosen(studio):
    studio.samplers["bridge"].order, studio.samplers["bridge"].guidance = 1, ClassifierFree(3.0)
    chosen = studio._sampler("bridge", 2)
    assert (chosen.steps, chosen.eta, chosen.order, chosen.guidance.scale) == (2, 0.5, 1, 3.0)
    assert studio.own_sampler == "one_jump"


def test_samplers_have_the_views_and_the_guidance_of_the_model_unless_they_have_their_own(pipe, tmp_path):  # noqa: F811
    mirrored, guided = copy.copy(pipe), copy.copy(pipe)
    mirrored.sampler, guided.sampler = OneJump(views=MirroredViews()), OneJump(ClassifierFree(3.0))
    bridges = {"bridge": Bridge(2), "guided": Bridge(2, guidance=ClassifierFree(2.0))}
    of_mirrored, of_guided = (Studio(model, bridges, tmp_path).samplers for model in (mirrored, guided))
    assert [of_mirrored[name].views.count for name in bridges] == [4, 1]
    assert [of_guided[name].guidance.scale for name in bridges] == [3.0, 2.0]
    assert of_mirrored["guided"].guidance.scale == 2.0


def test_one_jump_goes_as_far_as_the_model_does_unless_it_has_a_strength_of_its_own(pipe, tmp_path):  # noqa: F811
    half = copy.copy(pipe)
    half.sampler = OneJump(strength=0.5)
    jumps = {"own": OneJump(), "less": OneJump(strength=0.2)}
    assert [sampler.strength for sampler in Studio(half, jumps, tmp_path).samplers.values()] == [0.5, 0.2]
    assert jumps["own"].strength == 1


@pytest.mark.parametrize(
    ("pins", "frames", "said"),
    [
        ([Pinned(PICTURES[0], 0), Pinned(PICTURES[1], 1)], 21, r"keyframes\[1\]\.time=1%: .*latent slot of its own"),
        ([Pinned("gone.png", 0)], 21, r"keyframes\[0\]\.image=gone\.png: .*no such file"),
        (
            [Pinned(PICTURES[0], 0)],
            60,
            r"keyframes=a gap of 59 after latent frame 0: expected keyframes at most 20 latent frames apart",
        ),
    ],
)
@needs_gradio
def test_a_mistake_is_one_line_in_the_page(studio, pins, frames, said):
    import gradio as gr

    from interp_refiner.storyboard.page.page import previewing, refining

    with pytest.raises(BadValue, match=said):
        studio.interpolate(storyboard(pins, frames, 8.0, ""), "a")
    request = gr.Request(session_hash="a")
    lines = [
        previewing(studio)(pins, frames, 8.0, "", request)[-1],
        refining(studio)(pins, frames, 8.0, "", "one_jump", 1, 0, request, gr.Progress())[-1],
    ]
    assert lines[0] == lines[1]
    assert 'class="said refused"' in lines[0]
    assert "\n" not in lines[0]


@needs_gradio
def test_a_file_that_is_no_picture_is_called_by_its_own_name(studio, tmp_path):
    import gradio as gr

    from interp_refiner.storyboard.page.page import BLANK, picture_uri, previewing

    fake = tmp_path / "some hash" / "fake.png"
    fake.parent.mkdir()
    fake.write_text("no picture")
    pins = [Pinned(PICTURES[0], 0), Pinned(str(fake), 100)]
    line = previewing(studio)(pins, 21, 8.0, "", gr.Request(session_hash="a"))[-1]
    kinds = "png | jpeg | webp | avif | bmp | gif | tiff"
    assert f"keyframes[1].image=fake.png: expected a complete, readable image ({kinds})" in line
    assert "some hash" not in line
    assert picture_uri(str(fake)) == BLANK


@needs_gradio
def test_thumbnails_are_upright(tmp_path):
    from interp_refiner.storyboard.page.page import picture_uri

    picture = Image.effect_noise((80, 40), 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter, as telephones write it
    picture.save(tmp_path / "lying.jpg", exif=exif)
    data = base64.b64decode(picture_uri(str(tmp_path / "lying.jpg")).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (40, 80)


@needs_gradio
def test_the_timeline_shows_pictures_where_they_snap_to(studio):
    from interp_refiner.storyboard.page.page import timeline_html

    pins = [Pinned(PICTURES[0], 0), Pinned(PICTURES[1], 48, 0.4)]
    shown = timeline_html(pins, studio.interpolate(storyboard(pins, 21, 8.0, ""), "a").plan)
    assert 'class="proposal" style="left:50.00%"' in shown
    assert "10 · 1.2s" in shown
    assert shown.count("data:image/png;base64,") == 2


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "interp_refiner.storyboard.page.page", raising=False)
    with pytest.raises(MissingExtra, match=r"the demo page needs gradio.*pip install 'interp_refiner\[app\]'"):
        app(program_config("app", tmp_path, "checkpoint=none"))


@needs_gradio
def test_a_taken_port_is_refused(studio):
    from interp_refiner.storyboard.page.page import open_page

    page, url = open_page(studio, "127.0.0.1", None)
    try:
        port = int(url.rstrip("/").rpartition(":")[2])
        with pytest.raises(BadValue, match=f"port={port}: expected a port that is free"):
            open_page(studio, "127.0.0.1", port)
    finally:
        page.close()


@needs_gradio
@needs_chromium
def test_the_page_in_a_browser_without_a_network(studio, tmp_path):
    from interp_refiner.storyboard.page.page import open_page

    page, url = open_page(studio, "127.0.0.1", None)
    try:
        with browser.chromium(tmp_path / "profile") as window:
            use_the_page(window, url)
    finally:
        page.close()


def use_the_page(window, url: str) -> None:
    window.open(url)
    window.wait("document.querySelector('input[type=file]')")
    window.upload("input[type=file]", *PICTURES)
    window.wait("document.querySelectorAll('#timeline figure').length == 5")
    window.wait("document.querySelector('#interpolation video')?.videoWidth == 48")
    window.wait("document.querySelectorAll('input[type=checkbox]').length == 5")
    window.run("(document.querySelectorAll('input[type=checkbox]')[2].click(), 1)")
    window.wait("document.querySelectorAll('#timeline .proposal').length == 1")
    window.click("#refine")
    window.wait("document.querySelector('#refined video')?.videoWidth == 48")
    window.wait("document.querySelector('#contract')?.innerText.includes('20.png')")
    window.resize(390, 900)  # a phone's
    window.wait("document.documentElement.scrollWidth == document.documentElement.clientWidth")  # nothing stands out
    window.write("#frames input", "300")
    line = "keyframes=a gap of 75 after latent frame 0: expected keyframes at most 20"  # the page follows every digit
    window.wait(f"document.querySelector('.refused')?.innerText.startsWith('{line}')")
    hosts = window.run("[...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).hostname))]")
    assert set(hosts) <= {"127.0.0.1", ""}


@needs_gradio
@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("203.0.113.7", 7860, "host=203.0.113.7: expected an address of this machine"),
        ("2001:db8::7", 7860, "host=2001:db8::7: expected an address of this machine"),
        ("127.0.0.1", 70000, "port=70000: expected 1 to 65535"),
    ],
)
def test_a_wrong_address_is_named(studio, host, port, said):
    from interp_refiner.storyboard.page.page import open_page

    with pytest.raises(BadValue, match=said):
        open_page(studio, host, port)
