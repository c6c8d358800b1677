"""The report as files: one self-contained HTML page, and Markdown with pictures."""

import base64
import re
from html.parser import HTMLParser

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from interp_refiner.evaluation.comparison import Comparison, find_runs, read_runs, write_report
from interp_refiner.evaluation.comparison.clips import clips_of, frames_of
from interp_refiner.report import report, with_runs
from tests.browser import MISSING, chromium
from tests.evaluation.comparison.synthetic import add_clips, sigma_sweep
from tests.helpers import CONF


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = tmp_path_factory.mktemp("report")
    sweep = sigma_sweep(place / "sweep")
    add_clips(sweep / "2")
    (sweep / "3" / "samples").mkdir()
    best = sweep / "2" / "evaluation" / "best.mp4"
    (sweep / "3" / "evaluation" / "clips.json").write_text('{"best": ')
    (sweep / "3" / "samples" / "step_000050.mp4").write_bytes(best.read_bytes())
    (sweep / "3" / "samples" / "step_000100.mp4").write_bytes(best.read_bytes()[:999])
    comparison = Comparison(read_runs(find_runs([sweep])))
    files = write_report(comparison, place / "out", "a <sweep> & more")
    return files["html"].read_text(), files["markdown"].read_text(), place


class Tags(HTMLParser):
    """Every element with its attributes, and the text outside of style."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_asks_for_nothing_from_outside(written):
    page = written[0]
    links = [value for _, attributes in Tags(page).elements for name, value in attributes.items() if name in LINKS]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"url\(|@import|<script|<link|https?://", re.sub(r"base64,[\w+/=]+", "", page))


LINKS = ("src", "href", "srcset", "poster", "data", "action")


def test_what_came_from_runs_is_escaped(written):
    page, markdown, _ = written
    assert {"b", "sweep", "best"}.isdisjoint(
        tag for tag, _ in Tags(page.replace("<b>", "<strong>", page.count("<figcaption><b>") + 2)).elements
    )
    text = "".join(Tags(page).texts)
    for said in ("a <sweep> & more", "failed: the disk is full <b>", "<best&1>, level 2: MSE / linear 0.50"):
        assert said in text
    assert "the disk is full &lt;b>" in markdown
    assert "# a &lt;sweep> &amp; more" in markdown


def test_page_and_markdown_say_who_is_best(written):
    page, markdown, _ = written
    text = "".join(Tags(page).texts)
    for said in ("dist, sigma=0.3", "0.750 (0.740..0.760). That is 0.005 (0.7%) ahead of the next, gauss, sigma=0.3"):
        assert said in text
        assert said in markdown
    assert "no winner, dist, sigma=0.3 has 0.750" in markdown  # the intervals of the two best overlap
    assert "| 0.750 (0.740..0.760) |" in markdown
    marks = [attributes.get("class") or "" for tag, attributes in Tags(page).elements if tag == "td"]
    assert not any("best" in mark for mark in marks)
    assert sum("near" in mark for mark in marks) > 2


def test_markdown_aligns_words_left_and_figures_right(written):
    _, markdown, _ = written
    headings, alignment = [line.split(" | ") for line in markdown.splitlines() if line.startswith("| ")][:2]
    found = dict(zip(headings, alignment, strict=True))
    assert (found["| run"], found["status"], found["steps"]) == ("| ---", "---", "---:")


def test_markdown_shows_pictures_that_are_there(written):
    _, markdown, place = written
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert {"mse_ratio_by_level.png", "perception_distortion.png", "learning_curves.png", "clips_2.png"} <= set(
        pictures
    )
    assert all((place / "out" / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    headings, _, *rows = [line for line in markdown.splitlines() if line.startswith("| ")][:10]
    assert all(row.replace("\\|", "").count("|") == headings.count("|") for row in rows)


def test_clips_are_cut_out_of_the_video_and_play(written, tmp_path):
    page, _, place = written
    uris = [attributes["src"] for tag, attributes in Tags(page).elements if tag == "video"]
    assert len(uris) == 3  # best and worst of one run, and the last whole video of another
    (tmp_path / "clip.mp4").write_bytes(base64.b64decode(uris[0].removeprefix("data:video/mp4;base64,")))
    frames, fps = frames_of(tmp_path / "clip.mp4")
    assert fps == 4
    assert frames.shape == (5, 16 * 16 + 6, 3 * (16 * 24 + 6), 3)
    middles = [frames[2, 131, 195 + 390 * panel].mean() / 255 for panel in range(3)]
    assert middles == pytest.approx([1 / 8, 2 / 8, 3 / 8], abs=0.02)
    runs = {run.name: run for run in read_runs(find_runs([place / "sweep"]))}
    assert [clip.videos for clip in clips_of(runs["2"])] == [["truth", "linear", "one_jump"]] * 2
    assert [clip.title for clip in clips_of(runs["3"])] == ["after 50 steps"]
    assert clips_of(runs["6"]) == []


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_browser_shows_the_page_at_two_widths_and_plays_its_clips(written, tmp_path):
    with chromium(tmp_path / "profile") as browser:
        for width in (390, 1280):
            browser.resize(width, 900)
            browser.open(f"file://{written[2] / 'out' / 'report.html'}")
            browser.wait("[...document.querySelectorAll('video')].every(v => v.readyState >= 2)")
            assert browser.run("document.querySelectorAll('video').length") == 3
            assert browser.run("[...document.images].every(image => image.naturalWidth > 0)")
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
            assert browser.run("performance.getEntriesByType('resource').every(r => r.name.startsWith('data:'))")


def test_plain_folders_become_a_list_in_hydras_grammar(tmp_path):
    odd = tmp_path / "sigma=0.3, it's"
    odd.mkdir()
    arguments = with_runs(["logs/a b", "against=seed", str(odd), "--cfg", "job"][:4])
    assert arguments[1:] == ["against=seed", "--cfg"]
    (override,) = OverridesParser.create().parse_overrides(arguments[:1])
    assert override.value() == ["logs/a b", str(odd)]
    assert with_runs(["runs=[a,b]"]) == ["runs=[a,b]"]


def test_the_program_prints_who_is_best_and_where_the_report_is(written, tmp_path, capsys):
    places = [f"output={tmp_path}", "paths.root=."]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        report(compose("report", [*with_runs([str(written[2] / "sweep")]), *places]))
    printed = capsys.readouterr().out
    assert printed.startswith("Lowest MSE / linear at level 2: no winner, dist, sigma=0.3 has 0.750")
    assert f"html      {tmp_path / 'report.html'}" in printed
    assert "<h1>Runs of sweep</h1>" in (tmp_path / "report.html").read_text()


def test_a_folder_that_is_not_there_is_one_line_and_exit_code_two(program, tmp_path):
    done = program("report", "nowhere", f"paths.root={tmp_path}")
    assert done.returncode == 2
    expected = "runs=nowhere: expected a run folder, or a folder with runs in it such as a multirun's: no such folder\n"
    assert done.stderr == expected
