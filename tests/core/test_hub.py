"""Models by their names on the hub, with a local stand-in: downloads, the cache, and refusals."""

import pytest

from interp_refiner.core import BadValue, fetch
from tests.hub_server import COMMIT, hub


@pytest.fixture
def server(tmp_path, monkeypatch):
    pipeline, single = tmp_path / "hub/someone/pipeline", tmp_path / "hub/someone/single"
    for file in ("transformer/config.json", "transformer/a.safetensors", "text_encoder/large.safetensors"):
        (pipeline / file).parent.mkdir(parents=True, exist_ok=True)
        (pipeline / file).write_text(file)
    (pipeline / "model_index.json").write_text("{}")
    (single / "below").mkdir(parents=True)
    for file in ("config.json", "model.safetensors", "picture.png", "below/other.safetensors"):
        (single / file).write_text(file)
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch) as served:
        yield served


def test_a_path_is_taken_as_it_is(server, tmp_path, monkeypatch):
    (tmp_path / "someone/pipeline").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert str(fetch("pretrained", "someone/pipeline")) == "someone/pipeline"
    assert fetch("pretrained", tmp_path / "nothing/there") == tmp_path / "nothing/there"
    assert server.sent == []


def test_only_the_wanted_parts_of_a_pipeline_are_loaded_and_only_once(server):
    for _ in range(2):
        folder = fetch("pretrained", "someone/pipeline", ["transformer"])
        assert (folder / "transformer/a.safetensors").read_text() == "transformer/a.safetensors"
        assert sorted(server.sent) == ["model_index.json", "transformer/a.safetensors", "transformer/config.json"]


def test_of_a_model_that_is_no_pipeline_its_own_weights_are_loaded(server):
    folder = fetch("pretrained", f"someone/single@{COMMIT}", ["transformer"])
    assert sorted(server.sent) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").is_file()


def test_one_file_and_a_whole_model(server):
    file = fetch("weights", "someone/single@main/below/other.safetensors")
    assert file.read_text() == "below/other.safetensors"
    assert (fetch("checkpoint", "someone/single") / "picture.png").is_file()


def test_files_beside_a_single_file_come_from_its_folder_if_they_are_there(server, tmp_path):
    (tmp_path / "hub/someone/single/below/config.json").write_text("its own")
    for _ in range(2):
        file = fetch("weights", "someone/single/below/other.safetensors", beside=["config.json", "absent.json"])
        assert file.with_name("config.json").read_text() == "its own"
    assert sorted(server.sent) == ["below/config.json", "below/other.safetensors"]


def test_without_the_hub_the_cache_is_enough(server, monkeypatch):
    fetch("pretrained", "someone/pipeline", ["transformer"])
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    folder = fetch("pretrained", "someone/pipeline", ["transformer"])
    assert (folder / "transformer/a.safetensors").is_file()
    with pytest.raises(BadValue, match=r"folder=someone/pipeline: .*not in the cache"):
        fetch("folder", "someone/pipeline", ["text_encoder"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadValue, match=r"pretrained=someone/other: expected .*not in the cache"):
        fetch("pretrained", "someone/other", ["transformer"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody/nothing", "the hub has no such model"),
        ("someone/pipeline@v2", "no such revision"),
        ("someone/closed", "licence has to be accepted"),
        ("someone/single/no.safetensors", "has no such file"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(server, name, said):
    server.gated.add("someone/closed")
    with pytest.raises(BadValue, match=rf"pretrained={name}: expected a path, or .*{said}") as error:
        fetch("pretrained", name, ["transformer"])
    assert "\n" not in str(error.value)
