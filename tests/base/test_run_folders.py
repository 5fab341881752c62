"""The folder of a run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sparsity.base.errors import InputError
from sparsity.base.run_folders import run_folder


def make(project: Path, name: str = "exp", *, exist_ok: bool = False) -> str:
    """Run once, leave a file, give the folder's name."""
    with run_folder(project, name, exist_ok=exist_ok) as folder:
        (folder / "result.csv").write_text("1", encoding="utf-8")
    return folder.relative_to(project).as_posix()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("exp", ["exp", "exp2", "exp3"], id="the default"),
        pytest.param("v5", ["v5", "v52", "v53"], id="a name that ends in a digit"),
        pytest.param("a.b", ["a.b", "a.b2", "a.b3"], id="a name with a dot"),
    ],
)
def test_numbered_up(tmp_path, name, expected):
    assert [make(tmp_path / "runs" / "val", name) for _ in range(3)] == expected


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_number_in_use_is_passed_over(tmp_path, kind):
    make(tmp_path)
    taken = tmp_path / "exp2"
    if kind == "file":
        taken.write_text("mine", encoding="utf-8")
    else:
        taken.mkdir()
    assert make(tmp_path) == "exp3"
    assert taken.exists()


def test_the_first_gap_is_filled(tmp_path):
    (tmp_path / "exp2").mkdir()
    assert [make(tmp_path) for _ in range(2)] == ["exp", "exp3"]


def test_exist_ok_takes_the_folder_and_what_is_in_it(tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "old.csv").write_text("0", encoding="utf-8")
    assert [make(tmp_path, exist_ok=True) for _ in range(2)] == ["exp", "exp"]
    assert sorted(p.name for p in (tmp_path / "exp").iterdir()) == ["old.csv", "result.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("wrote", [pytest.param(True, id="wrote"), pytest.param(False, id="wrote nothing")])
def test_after_a_failure_only_an_empty_folder_goes(tmp_path, error, wrote):
    def fail():
        with run_folder(tmp_path, "exp", exist_ok=False) as folder:
            assert folder.is_dir()
            if wrote:
                (folder / "a.csv").write_text("1", encoding="utf-8")
            raise error("mine")

    with pytest.raises(error, match="mine"):
        fail()
    assert [p.name for p in tmp_path.rglob("*")] == (["exp", "a.csv"] if wrote else [])
    assert make(tmp_path) == ("exp2" if wrote else "exp")


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path):
    with run_folder(tmp_path, "exp", exist_ok=False):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exist_ok", [False, True])
@pytest.mark.parametrize("below", [pytest.param("", id="is a file"), pytest.param("runs", id="is below one")])
def test_the_project_is_a_file(tmp_path, below, exist_ok):
    file = tmp_path / "results"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"`project` .*results.*no folder"):
        make(file / below, exist_ok=exist_ok)
    assert file.read_text(encoding="utf-8") == "mine"


def test_exist_ok_with_a_file_of_that_name(tmp_path):
    (tmp_path / "exp").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="no folder"):
        make(tmp_path, exist_ok=True)


def test_many_at_once_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: make(tmp_path / "runs"), range(64)))
    assert set(made) == {"exp", *(f"exp{i}" for i in range(2, 65))}
