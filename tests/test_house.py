"""The structure of the project: imports go to rooms above, config groups mirror folders, links are valid."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeGuard

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "interp_refiner"
ROOMS = ["core", "config", "forward", "model", "data", "training", "evaluation", "storyboard"]
INSIDE = {  # the folders of a room in the order in which they may import each other; "." is its loose modules
    "forward": ["schedule", "interpolator", "scheduled_sampling", "corruption"],
    "model": ["attention", "backbone", "objective", "sampler", "keyframes"],
    "data": ["shards", "codec", "text", "medium", "world", ".", "preparation"],
    "training": ["optimizer", "checkpoint", ".", "callback", "strategy", "record"],
    "evaluation": [
        "statistics",
        "measures",
        "records",
        "run",
        "pictures",
        "evaluator",
        "diagnosis",
        "benchmarks",
        "programs",
        "comparison",
    ],
    "storyboard": ["file", "plan", "conditioning", "saved", "pipeline", "export", "sampling", "page", ".", "diffusers"],
}
ASSEMBLY = "assemble"
PROGRAMS = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem not in ("__init__", ASSEMBLY))
GROUPS = {  # config groups that name components, and the folder that holds their classes
    **{name: f"forward/{name}" for name in INSIDE["forward"]},
    **{name: f"model/{name}" for name in INSIDE["model"]},
    **{name: f"data/{name}" for name in ("codec", "text", "medium")},
    "keyframe_flow": "model/keyframes",
    "keyframe_choice": "model/keyframes",
    "keyframe_sampler": "model/keyframes",
    "optimizer": "training/optimizer",
    "training": "training",
    "metric": "evaluation/measures",
    "keyframe_source": "model/keyframes",
}
MOST_ARGUMENTS = 7  # of a constructor; dataclasses of data aside
LONGEST_PROGRAM = 80  # lines
MOST_MODULES = 13  # of a folder of these rooms
SHORT = ["evaluation", "storyboard"]
FLOORS = 8


@cache
def imports(file: Path) -> frozenset[tuple[str, ...]]:
    """What a file imports of this package, as the parts of dotted names; imports for types and in functions, too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = PACKAGE.name == node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if whole else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    inside = [module.split(".") for module in found if module.startswith(f"{PACKAGE.name}.")]
    return frozenset(tuple(parts[1:]) for parts in inside)


def files(part: str) -> list[Path]:
    """The files of a room, or of a module that stands beside the rooms."""
    return sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]


def neighbours(part: str) -> set[str]:
    """The rooms and modules beside them that a part imports from."""
    return {module[0] for file in files(part) for module in imports(file)} - {part}


def place(room: str, parts: tuple[str, ...]) -> str:
    """The folder of a room that a module of it is in."""
    return parts[0] if parts and parts[0] in INSIDE[room] else "."


def test_every_folder_is_a_room():
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(ROOMS)
    for room, order in INSIDE.items():
        folders = {path.name for path in (PACKAGE / room).iterdir() if (path / "__init__.py").is_file()}
        assert folders == set(order) - {"."}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_above_it(room):
    assert neighbours(room) <= set(ROOMS[: ROOMS.index(room)])


@pytest.mark.parametrize("room", INSIDE)
def test_folders_of_a_room_import_in_their_order(room):
    order = INSIDE[room]
    for file in files(room):
        own = place(room, file.relative_to(PACKAGE / room).parts)
        if file == PACKAGE / room / "__init__.py":
            continue
        for module in imports(file):
            if module[0] == room:
                other = place(room, module[1:])
                assert order.index(other) <= order.index(own), f"{file} imports {'.'.join(module)}"


@pytest.mark.parametrize("room", SHORT)
def test_a_folder_of_these_rooms_is_short(room):
    assert not [file for file in (PACKAGE / room).glob("*.py") if file.name != "__init__.py"]
    modules = [file.parent for file in files(room) if file.name != "__init__.py"]
    assert not {folder for folder in modules if modules.count(folder) > MOST_MODULES}


@pytest.mark.parametrize("part", [*ROOMS, ASSEMBLY, *PROGRAMS])
def test_nothing_imports_a_program(part):
    assert not neighbours(part) & set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_is_short(program):
    assert len((PACKAGE / f"{program}.py").read_text().splitlines()) <= LONGEST_PROGRAM


def constructors() -> dict[str, int]:
    """How many arguments every class of the package is constructed with."""
    classes = (
        node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text())) if is_class(node)
    )
    return {
        c.name: len(f.args.args) - 1 + len(f.args.kwonlyargs)
        for c in classes
        for f in c.body
        if isinstance(f, ast.FunctionDef) and f.name == "__init__"
    }


def is_class(node: ast.AST) -> TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef)


def test_constructors_have_few_arguments():
    assert not {name for name, count in constructors().items() if count > MOST_ARGUMENTS}


def floors() -> int:
    """The longest chain of imports between rooms, the assembly and programs."""

    @cache
    def floor(part: str) -> int:
        return 1 + max(map(floor, neighbours(part)), default=0)

    return max(floor(part) for part in (*ROOMS, ASSEMBLY, *PROGRAMS))


def test_the_house_has_as_many_floors_as_it_says():
    assert floors() == FLOORS


def test_the_ast_walk_sees_imports(tmp_path):
    file = tmp_path / "module.py"
    lines = ["import interp_refiner.data.shards", "from interp_refiner.core import Clip", "import torch"]
    file.write_text("\n".join([*lines, "from interp_refiner import assemble", ""]))
    assert imports(file) == {("data", "shards"), ("core",), ("assemble",)}


@pytest.mark.parametrize(("group", "folder"), GROUPS.items())
def test_a_group_that_names_a_component_has_its_folder(group, folder):
    assert (PACKAGE / folder / "__init__.py").is_file()
    for option in (PACKAGE.parent / "conf" / group).rglob("*.yaml"):
        text = option.read_text()
        targets = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("_target_:")]
        for target in targets:
            assert target.startswith(f"{PACKAGE.name}.{folder.replace('/', '.')}."), f"{option}: {target}"


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


@pytest.mark.parametrize("script", sorted((PACKAGE.parent / "experiments").rglob("*.py")), ids=lambda file: file.stem)
def test_scripts_of_experiments_import_what_exists(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE.name:
            module = import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or import_module(f"{node.module}.{name.name}"), name.name


def anchors_of(document):
    """The anchors that its headings have on the pages of GitHub."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_code_points_to_headings_of_the_method_that_exist():
    headings = set(re.findall(r"^## (.+)$", (PACKAGE.parent / "docs" / "method.md").read_text(), re.MULTILINE))
    pointers = re.compile(r"docs/method\.md, ([A-Z][\w -]*\w)")
    sources = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tests").rglob("*.py")]
    found = {name for file in sources for name in pointers.findall(file.read_text())}
    assert {"Plan", "Corruption", "Randomness"} <= found
    assert found <= headings, found - headings
