"""Files that are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from sparsity.base.files import (
    cache_folder,
    replacing,
    write_text,
)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask():
    """Sets the umask for a test."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("before", [pytest.param(None, id="new"), pytest.param("old", id="replaced")])
def test_success_leaves_the_file_alone(tmp_path, before):
    target = tmp_path / "a.txt"
    if before is not None:
        target.write_text(before, encoding="utf-8")
    write_text(target, "new ✓\n")
    assert target.read_bytes() == "new ✓\n".encode()
    assert listing(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError, id="an error"),
        pytest.param(OSError, id="a full disk"),
        pytest.param(KeyboardInterrupt, id="Ctrl-C"),
        pytest.param(SystemExit, id="exit"),
    ],
)
@pytest.mark.parametrize("before", [pytest.param(None, id="new"), pytest.param("old", id="replaced")])
def test_failure_leaves_what_was_there(tmp_path, before, error):
    target = tmp_path / "a.txt"
    if before is not None:
        target.write_text(before, encoding="utf-8")

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        write_half()
    assert listing(tmp_path) == ([] if before is None else ["a.txt"])
    assert before is None or target.read_text(encoding="utf-8") == before


def test_the_old_file_is_there_until_the_end(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with replacing(target) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("new", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "old"
    assert target.read_text(encoding="utf-8") == "new"


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "\udce9")
    assert target.read_text(encoding="utf-8") == "old"
    assert listing(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mask):
    umask(mask)
    write_text(tmp_path / "a.txt", "new")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask
    assert umask(mask) == mask


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a.txt", "new")


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a.txt", "new")
    assert listing(tmp_path) == ["a.txt"]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    steps, real_sync, real_replace = [], os.fsync, Path.replace

    def sync(handle: int) -> None:
        steps.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    write_text(tmp_path / "a.txt", "new")
    part, rename, folder = steps
    assert Path(part).name.startswith(".a.txt.")
    assert (rename, folder) == ("rename", str(tmp_path))
    steps.clear()
    with replacing(tmp_path / "a.txt", durable=False) as temporary:
        temporary.write_text("newer")
    assert steps == ["rename"]
    assert (tmp_path / "a.txt").read_text() == "newer"


def test_a_relative_cache_folder_is_ignored_as_the_standard_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "sparsity"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "sparsity"
