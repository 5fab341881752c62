"""The arrows of the house: which room may import which, in sparsity/."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sparsity"
LOOSE = {"__init__", "__main__"}
"""The modules that lie in no room."""
RECORDS = {
    "channels.slimming_table",
    "comparing.row",
    "data.scan",
    "evaluation.average_precision",
    "formats.sizes",
    "pruning.zeros",
    "sweeping.stages",
    "sweeping.example",
    "sweeping.table",
    "validation.metrics",
}
"""The modules that define rows and what they are made of: all that a report may know."""
ROOMS: dict[str, set[str]] = {
    "base": set(),
    "demo": {"base"},
    "yolo": {"base"},
    "pruning": {"base"},
    "evaluation": {"base"},
    "data": {"base", "demo"},
    "channels": {"base", "pruning", "yolo"},
    "sparse_engine": {"base", "yolo"},
    "c_engine": {"base", "sparse_engine", "yolo"},
    "formats": {"base", "c_engine", "pruning", "yolo"},
    "engines": {"base", "formats", "sparse_engine", "yolo"},
    "validation": {"base", "data", "engines", "evaluation", "formats", "pruning", "yolo"},
    "predicting": {"base", "data", "engines", "evaluation", "formats", "validation", "yolo"},
    "timing": {"base", "engines", "pruning", "sparse_engine", "validation", "yolo"},
    "training": {"base", "channels", "data", "formats", "pruning", "validation", "yolo"},
    "sweeping": {
        *("base", "channels", "data", "engines", "evaluation", "formats", "pruning"),
        *("timing", "training", "validation", "yolo"),
    },
    "comparing": {
        *("base", "data", "engines", "evaluation", "formats", "pruning"),
        *("timing", "validation", "yolo"),
    },
    "cluster": {
        *("base", "comparing", "data", "engines", "pruning"),
        *("sweeping", "training", "validation", "yolo"),
    },
    "report": {"base", *RECORDS},
}
"""A room -> what it may import, beside itself: rooms, or single modules of them. Commands may import all."""
NO_TORCH = {
    *("commands.parser", "commands.parsers", "commands.flags", "commands.table", "commands.running"),
    *("commands.translation", "commands.resuming", "commands.prediction_flags"),
    *("__main__", "__init__"),
}
"""What a --help imports."""
HEAVY = {"torch", "numpy", "pandas", "cv2", "matplotlib"}


def modules() -> dict[str, Path]:
    """Dotted name inside the package -> file."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in files}


def imports(tree: ast.AST) -> set[str]:
    """The dotted names of all modules that are imported, wherever in the file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.add(node.module)
            if (PACKAGE.parent / node.module.replace(".", "/")).is_dir():
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def ours(file: Path) -> set[str]:
    """The modules of the package that a file imports, by their dotted names inside it."""
    names = {n.removeprefix("sparsity.") for n in imports(parse(file)) if n.startswith("sparsity.")}
    return {name for name in names if name in modules()}


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def is_allowed(name: str, imported: str) -> bool:
    room, other = name.split(".")[0], imported.split(".")[0]
    if room in ("commands", *LOOSE):
        return True
    return other == room or other in ROOMS[room] or imported in ROOMS[room]


def test_every_room_is_named():
    rooms = {file.parent.name for file in PACKAGE.glob("*/*.py")}
    assert rooms == {*ROOMS, "commands"}


def test_no_module_lies_outside_a_room():
    assert {file.stem for file in PACKAGE.glob("*.py")} == LOOSE


def test_the_tests_mirror_the_rooms():
    tests = Path(__file__).parent
    assert {file.name for file in tests.glob("test_*.py")} == {
        "test_documentation.py",
        "test_doors.py",
        "test_gpu_path.py",
        "test_imports.py",
        "test_installing.py",
    }
    assert {file.parent.name for file in tests.glob("*/test_*.py")} <= {*ROOMS, "commands"}


def test_there_are_no_circles():
    arrows = {room: {name.split(".")[0] for name in targets} - {room} for room, targets in ROOMS.items()}
    left = dict(arrows)
    while left:
        free = [room for room, targets in left.items() if not targets & left.keys()]
        assert free, f"rooms that import one another: {sorted(left)}"
        for room in free:
            del left[room]


@pytest.mark.parametrize(("name", "file"), modules().items(), ids=modules())
def test_imports_follow_the_arrows(name, file):
    assert not {imported for imported in ours(file) if not is_allowed(name, imported)}


@pytest.mark.parametrize("room", [*ROOMS, *sorted(LOOSE)])
def test_nothing_imports_the_commands(room):
    for name, file in modules().items():
        if name.split(".")[0] == room and name != "__main__":
            assert not {imported for imported in ours(file) if imported.startswith("commands.")}, name


@pytest.mark.parametrize(("name", "file"), modules().items(), ids=modules())
def test_every_module_says_its_idea_in_its_first_line(name, file):
    if file.read_text(encoding="utf-8"):
        assert ast.get_docstring(parse(file)), name


def test_nothing_is_imported_inside_a_function():
    for name, file in modules().items():
        functions = [n for n in ast.walk(parse(file)) if isinstance(n, ast.FunctionDef)]
        inner = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not inner, name


@pytest.mark.parametrize("name", sorted(NO_TORCH))
def test_a_help_needs_no_heavy_package(name):
    seen, todo = set(), {name}
    while todo:
        one = todo.pop()
        seen.add(one)
        tree = parse(modules()[one])
        tree.body = [node for node in tree.body if not _is_for_typing(node)]
        names = imports(tree)
        assert not {module.split(".")[0] for module in names} & HEAVY, f"{name} imports {one}"
        found = {n.removeprefix("sparsity.") for n in names if n.startswith("sparsity.")}
        todo |= {module for module in found if module in modules()} - seen


def _is_for_typing(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
