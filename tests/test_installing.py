"""The package as its users install it: a wheel, in an environment that has its dependencies alone."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for file in (ROOT / "sparsity").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            copied = source / file.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
    ]
    subprocess.run([*pip, built, source], check=True, timeout=120)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory) -> Path:
    """The console command, in an environment of its own that sees the dependencies installed here."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(place, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        place / "bin" / "python",
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*pip, "--no-index", wheel], check=True, timeout=120)
    return place / "bin" / "sparsity"


def run(program: Path, folder: Path, *flags: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    done = subprocess.run(
        [program, *flags], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert wheel.name.startswith("yolo_sparsity-")
    assert {name.split("/")[0] for name in names} == {"sparsity", wheel.name.split("-py3")[0] + ".dist-info"}
    for name in ("py.typed", "report/page.html.jinja", "report/guide_yolov5x.csv"):
        assert f"sparsity/{name}" in names
    assert "sparsity/demo/yolov5n_demo.safetensors" in names


def test_the_command_and_the_module_are_the_same(program, tmp_path):
    said = run(program, tmp_path, "--help")
    assert "usage: sparsity" in said
    assert "commands:" in said
    assert run(program.with_name("python"), tmp_path, "-m", "sparsity", "--help") == said
    version = run(program, tmp_path, "--version")
    library = "import sparsity; print('sparsity', sparsity.__version__, sparsity.__file__)"
    name, number, place = run(program.with_name("python"), tmp_path, "-c", library).split()
    assert version.split() == [name, number]
    assert Path(place).is_relative_to(program.parents[1]), "not the sources' package"


@pytest.mark.slow
def test_the_installed_command_sweeps_the_demo(program, tmp_path):
    quick = ("--imgsz", "128", "--criterion", "l1", "--engines", "torch", "--batch-sizes", "none")
    said = run(program, tmp_path, "sweep", "0.5", "--demo", *quick, "--bootstrap", "0")
    assert "Results saved to results/sweep" in said
    folder = tmp_path / "results" / "sweep"
    assert {"sweep.csv", "sweep.png", "report.html"} <= {file.name for file in folder.iterdir()}
