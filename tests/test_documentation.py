"""What the documentation says: its examples run, and every public name is in the API reference."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import sparsity
from sparsity import save
from sparsity.yolo.network import Network

DOCS = Path(__file__).parents[1] / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
ROOT = DOCS.parent
PAGES = sorted(
    page for place in (".", "docs", "benchmarks", "results") for page in (ROOT / place).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_every_committed_result_that_is_named_is_there():
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    rows = page.split("| folder | made by |")[1].split("\n\n")[0].strip().splitlines()[1:]
    names = [row.split("|")[1].strip() for row in rows]
    assert len(names) > 5
    assert [name for name in names if not (ROOT / "results" / name).exists()] == []


@pytest.fixture
def folder(few_layers, shapes, tmp_path, monkeypatch) -> Path:
    """A folder with what the examples name."""
    network: Network = few_layers()
    save(network, tmp_path / "best.pt")
    text = shapes.read_text(encoding="utf-8").replace("val: images", f"val: {shapes.parent / 'images'}")
    text += f"train: {shapes.parent / 'images'}\n"
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "images").symlink_to(shapes.parent / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_api_run(folder, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", API, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)
    assert len(blocks) == API.count("```python")
    assert "`amount` is 30" in capsys.readouterr().out


def test_every_public_name_is_in_the_api_reference_and_in_an_example():
    for name in sparsity.__all__:
        assert getattr(sparsity, name) is not None
        assert re.search(rf"\b{name}\b", API), name


@pytest.mark.parametrize(
    "name", [name for name in sparsity.__all__ if not name.isupper() and name != "__version__"]
)
def test_every_public_name_has_an_entry_where_it_is_defined(name):
    place = sparsity._PLACES[name]
    assert f"::: sparsity.{place}.{name}\n" in API


@pytest.mark.parametrize(
    "file", sorted((DOCS.parent / "benchmarks").glob("*.py")), ids=lambda file: file.stem
)
def test_every_benchmark_is_in_a_page_and_can_be_started(file, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert callable(module.main)
    pages = [file.parent / "README.md", *DOCS.glob("*.md")]
    assert any(f"python benchmarks/{file.name}" in page.read_text(encoding="utf-8") for page in pages)
