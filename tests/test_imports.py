"""The house's arrows: who may import whom inside sparsity/."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sparsity"
EVERYWHERE = {"errors", "files", "progress"}
"""The exception, atomic writing and progress bars, which know nothing of the rest."""
LEAVES = {
    *("errors", "files", "progress", "devices", "metrics", "unpickle", "runs"),
    *("identity", "latency", "memory", "optional"),
    *("levels", "yolo.blocks", "yolo.spec", "detection.boxes", "data.letterbox", "pruning.layers"),
}
ROOMS = {
    "yolo": set(),
    "pruning": set(),
    "data": set(),
    "demo": set(),
    "detection": set(),
    "evaluation": {"detection.boxes"},
    "formats": {"optional", "pruning.layers", "unpickle", "yolo"},
    "engine": {"yolo"},
    "engines": {"engine", "formats", "optional", "yolo"},
}
"""A room imports itself and these alone."""
TOP = {
    "download": {"demo"},
    "checkpoint": {"formats", "unpickle", "yolo"},
    "saving": {"formats", "optional", "yolo"},
    "sizes": {"formats", "yolo"},
    "compacting": {"pruning", "yolo"},
    "flops": {"pruning", "yolo"},
    "slimming": {"pruning", "yolo"},
    "inference": {"detection", "devices", "engines", "yolo"},
    "calibration": {"data", "memory", "yolo"},
    "pruner": {"calibration", "memory", "pruning", "yolo"},
    "counting": {"data", "evaluation", "formats", "yolo"},
    "validation": {
        "counting",
        *("data", "detection", "devices", "engines", "evaluation", "formats", "inference", "metrics"),
        *("pruning", "yolo"),
    },
    "run_files": {"data", "metrics", "pruning"},
    "timing": {"devices", "engines", "inference", "latency", "validation"},
    "comparing": {
        *("checkpoint", "download", "engines", "flops", "formats", "identity", "latency", "memory", "sizes"),
        *("pruning", "timing", "validation"),
    },
    "rows": {"evaluation", "latency", "metrics", "pruning", "sizes"},
    "report": {
        "data",
        "evaluation",
        "metrics",
        "pruning",
        "rows",
        "sizes",
        "slimming.rows",
        "comparing.rows",
    },
    "sweeping": {
        *("compacting", "data", "detection", "devices", "engines", "evaluation", "inference", "identity"),
        *("latency", "memory", "metrics"),
        *("pruner", "pruning", "rows", "run_files", "sizes", "timing"),
        *("validation", "yolo"),
    },
    "training": {
        *("checkpoint", "data", "devices", "identity", "memory", "pruning", "saving"),
        *("calibration", "pruner", "slimming", "validation", "yolo"),
    },
    "opening": {
        *("checkpoint", "counting", "data", "download", "pruning", "report", "validation", "yolo"),
    },
    "layer_sensitivity": {"calibration", "data", "devices", "memory", "pruning", "validation", "yolo"},
    "cli": {
        *(
            "calibration",
            "demo",
            "devices",
            "download",
            "engines",
            "formats",
            "pruner",
            "saving",
            "pruning",
            "runs",
            "slimming",
        ),
        *("sweeping", "training", "validation", "yolo"),
    },
}
SCRIPTS = {"compare", "convert", "sensitivity"}
"""What is run by python -m, and so knows what the scripts know."""
PUBLIC = {
    "calibration",
    "checkpoint",
    "compacting",
    "saving",
    "metrics",
    "pruner",
    "pruning",
    "slimming",
    "sweeping",
    "validation",
    "yolo",
}


def modules() -> dict[str, Path]:
    """Dotted name inside the package -> file."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in files}


def imports(file: Path) -> set[str]:
    """The modules of the package that a file imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            names = [node.module]
            if node.module and (PACKAGE.parent / node.module.replace(".", "/")).is_dir():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.removeprefix("sparsity.") for n in names if n and n.startswith("sparsity.")}
    return found


def allowed(name: str) -> set[str]:
    room = name.split(".")[0]
    if name in LEAVES:
        return EVERYWHERE
    if name == "__init__":
        return EVERYWHERE | PUBLIC
    if room in ROOMS:
        return EVERYWHERE | ROOMS[room] | {room}
    if name in SCRIPTS:
        return EVERYWHERE | ROOMS.keys() | TOP.keys() | LEAVES | {"cli"}
    return EVERYWHERE | TOP[room] | {room}


@pytest.mark.parametrize(("name", "file"), modules().items(), ids=modules())
def test_imports_follow_the_arrows(name, file):
    wrong = {i for i in imports(file) if i not in allowed(name) and i.split(".")[0] not in allowed(name)}
    assert not wrong


@pytest.mark.parametrize(("name", "file"), modules().items(), ids=modules())
def test_every_module_says_its_idea_in_its_first_line(name, file):
    text = file.read_text(encoding="utf-8")
    if text:
        assert ast.get_docstring(ast.parse(text)), name


def test_nothing_is_imported_inside_a_function():
    for name, file in modules().items():
        functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
        inner = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not inner, name
