"""The house keeps its order: imports go to lower floors, config groups mirror packages, links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "interp_refiner"
FLOORS = {
    "core": 0,
    **dict.fromkeys(
        ["schedule", "interpolator", "metric", "attention", "text", "codec", "scheduled_sampling", "checkpoint"], 1
    ),
    **dict.fromkeys(["corruption", "backbone", "objective", "medium", "record"], 2),
    **dict.fromkeys(["data", "sampler"], 3),
    **dict.fromkeys(["training", "strategy"], 4),
    **dict.fromkeys(["callback", "evaluation", "pipeline"], 5),
    "comparison": 6,
}
FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
COMPONENT_GROUPS = [
    "schedule",
    "interpolator",
    "scheduled_sampling",
    "corruption",
    "attention",
    "backbone",
    "objective",
    "sampler",
    "codec",
    "text",
    "training",
    "metric",
    "medium",
]


def imported_folders(file: Path) -> set[str]:
    """The folders of this package that a file imports from, type-checking imports included."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    inside = [module.split(".") for module in modules if module.startswith("interp_refiner.")]
    return {parts[1] for parts in inside}


@pytest.mark.parametrize("folder", [name for name in FOLDERS if name != "entry"])
def test_a_folder_imports_from_lower_floors_only(folder):
    assert folder in FLOORS, f"{folder} has no floor"
    for file in (PACKAGE / folder).rglob("*.py"):
        for other in imported_folders(file) - {folder}:
            assert other in FLOORS, f"{file}: only entry points import {other}"
            assert FLOORS[other] < FLOORS[folder], f"{file} imports {other}, which is not below {folder}"


def test_training_does_not_know_data():
    for file in (PACKAGE / "training").rglob("*.py"):
        assert "data" not in imported_folders(file)


def test_the_ast_walk_sees_imports(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("import interp_refiner.data.shards\nfrom interp_refiner.core import Clip\nimport torch\n")
    assert imported_folders(file) == {"data", "core"}


@pytest.mark.parametrize("group", COMPONENT_GROUPS)
def test_a_group_that_names_a_component_has_its_package_folder(group):
    assert (PACKAGE / group / "__init__.py").is_file()
    for option in (PACKAGE.parent / "conf" / group).rglob("*.yaml"):
        text = option.read_text()
        targets = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("_target_:")]
        for target in targets:
            assert target.startswith(f"interp_refiner.{group}."), f"{option}: {target}"


def test_links_of_documents_lead_somewhere():
    root = PACKAGE.parent
    documents = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "experiments").rglob("*.md")]
    links = [(document, link) for document in documents for link in re.findall(r"\]\(([^)\s]+)", document.read_text())]
    assert len(links) > 100
    wrong = []
    for document, link in links:
        place, _, anchor = link.partition("#")
        target = document.parent / place if place else document
        if "://" in link or (target.exists() and (not anchor or anchor in anchors_of(target))):
            continue
        wrong.append(f"{document.relative_to(root)}: {link}")
    assert not wrong


def anchors_of(document):
    """The anchors that its headings have on the pages of GitHub."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
