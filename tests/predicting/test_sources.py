"""Sources: files, folders, globs and cameras, and the names of what is written about them."""

from pathlib import Path

import pytest

from sparsity.base.errors import InputError
from sparsity.predicting.sources import Source, file_names, find_source, is_video


@pytest.fixture
def folder(tmp_path) -> Path:
    seen = ("b.jpg", "a.PNG", "c.mp4", "notes.txt", ".hidden.jpg", "d.heic", "deep/e.jpg")
    for name in (*seen, "empty/x.txt", "above/below/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    return tmp_path


def names(source: Source) -> list[str]:
    return [file.name for file in source.files]


def test_a_folder_has_the_files_directly_in_it(folder):
    source = find_source(str(folder))
    assert names(source) == ["a.PNG", "b.jpg", "c.mp4"]
    assert [file.name for file in source.skipped] == ["d.heic"]
    assert [is_video(file) for file in source.files] == [False, False, True]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jpg", ["b.jpg"]), ("**/*.jpg", ["b.jpg", "e.jpg"]), ("[ab].*", ["a.PNG", "b.jpg"])],
)
def test_globs(folder, pattern, expected, monkeypatch):
    assert names(find_source(f"{folder}/{pattern}")) == expected
    monkeypatch.chdir(folder)
    assert names(find_source(pattern)) == expected


def test_a_number_is_a_camera_unless_a_file_has_that_name(folder, monkeypatch):
    assert find_source("0") == Source(camera=0)
    monkeypatch.chdir(folder)
    Path("0").mkdir()
    Path("0/f.jpg").touch()
    assert names(find_source("0")) == ["f.jpg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "nowhere.jpg",
            "`source` '.*nowhere.jpg': no such file or folder; an image, a video, a folder, a glob",
        ),
        ("empty", "empty: no image or video in this folder"),
        ("above", r"above: no image or video in this folder; '.*above/\*\*/\*' reaches its subfolders"),
        ("*.webp", r"\*\.webp: matches no image or video"),
        ("a**b", "is no glob that can be used|matches no image or video"),
        ("notes.txt", r"notes\.txt: \.txt is not read; images"),
        ("d.heic", r"d\.heic: \.heic is not read"),
    ],
)
def test_what_is_no_source(folder, text, words):
    with pytest.raises(InputError, match=words):
        find_source(f"{folder}/{text}")


def test_names_stay_apart(folder):
    files = [folder / name for name in ("a.png", "a.jpg", "deep/a.jpg", "c.mp4")]
    named = [file_names(files)[file] for file in files]
    assert [str(name.picture) for name in named] == ["a.png", "a.jpg", "deep/a.jpg", "c.mp4"]
    assert [str(name.label) for name in named] == ["a.png", "a.jpg", "deep/a", "c"]
    (alone,) = file_names([folder / "deep" / "a.jpg"]).values()
    assert str(alone.picture) == "a.jpg"
