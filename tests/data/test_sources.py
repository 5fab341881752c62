"""Data yamls and folders -> image files, names and the annotation file."""

import os
from pathlib import Path

import pytest

from sparsity.base.errors import InputError
from sparsity.data.sources import Source, files_below, find_source


def make(root: Path, *files: str, **contents: str) -> None:
    """Empty files, and files with content by their name (with __ for a slash, _dot_ for a dot)."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def found(source: Source, root: Path) -> list[str]:
    return [path.relative_to(root.resolve()).as_posix() for path in source.images]


@pytest.mark.parametrize(
    ("path", "yaml"),
    [
        pytest.param("path: d\n", "data.yaml", id="relative to the yaml"),
        pytest.param("path: ../d\n", "conf/data.yaml", id="relative, upwards"),
        pytest.param("path: ROOT/d\n", "conf/data.yaml", id="absolute"),
        pytest.param("path: d\n", "conf/data.yaml", id="relative to the working folder"),
        pytest.param("", "d/data.yaml", id="absent"),
        pytest.param("path:\n", "d/data.yaml", id="empty"),
        pytest.param("path: ''\n", "d/data.yml", id="empty text, .yml"),
    ],
)
def test_path(tmp_path, monkeypatch, path, yaml):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "d/images/val/a.jpg", "d/images/train/b.jpg")
    file = tmp_path / yaml
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{path}val: images/val\nnames: [cat]\n".replace("ROOT", str(tmp_path)), encoding="utf-8")
    source = find_source(file)
    assert found(source, tmp_path) == ["d/images/val/a.jpg"]
    assert (source.names, source.nc, source.annotations) == (("cat",), 1, None)


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        pytest.param("images", ["images/a.jpg", "images/sub/b.PNG"], id="folder, with those below"),
        pytest.param("list.txt", ["images/a.jpg", "other/c.jpg"], id="list file"),
        pytest.param("[images]", ["images/a.jpg", "images/sub/b.PNG"], id="list of one folder"),
        pytest.param(
            "[list.txt, images]", ["images/a.jpg", "images/sub/b.PNG", "other/c.jpg"], id="both, each once"
        ),
        pytest.param("[other, images/sub]", ["images/sub/b.PNG", "other/c.jpg"], id="two folders, sorted"),
        pytest.param("ROOT/other", ["other/c.jpg"], id="absolute"),
    ],
)
def test_val(tmp_path, val, expected):
    make(tmp_path, "images/a.jpg", "images/sub/b.PNG", "images/a.txt", "images/c.gif", "other/c.jpg")
    make(tmp_path, list_dot_txt="./other/c.jpg\n./images/a.jpg\n")
    make(tmp_path, data_dot_yaml=f"val: {val}\nnames: [cat]\n".replace("ROOT", str(tmp_path)))
    assert found(find_source(tmp_path / "data.yaml"), tmp_path) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("./images/a.jpg\n", ["images/a.jpg"], id="./ starts from the list's folder"),
        pytest.param("images/a.jpg\n", ["images/a.jpg"], id="without ./ it may do so"),
        pytest.param("ROOT/images/a.jpg\n", ["images/a.jpg"], id="absolute"),
        pytest.param(
            "./images/b.jpg\r\n./images/a.jpg\r\n", ["images/a.jpg", "images/b.jpg"], id="crlf, sorted"
        ),
        pytest.param("\n  ./images/a.jpg  \n\n", ["images/a.jpg"], id="blank lines and spaces"),
        pytest.param("./images/a.jpg\n./images/a.jpg\n", ["images/a.jpg"], id="twice"),
        pytest.param("./images/a.jpg\n./notes.md\n# val\n", ["images/a.jpg"], id="lines that are no image"),
        pytest.param(
            "./images/gone.jpg\n./images/a.jpg\n", ["images/a.jpg", "images/gone.jpg"], id="missing"
        ),
        pytest.param("./images/a b.jpg\n", ["images/a b.jpg"], id="a space in the name"),
        pytest.param("images/c:d.jpg\n", ["images/c:d.jpg"], id="a colon in the name"),
        pytest.param("c:d.jpg\n", ["c:d.jpg"], id="a name that begins like a drive"),
        pytest.param("images\\a.jpg\r\n.\\images\\b.jpg\r\n", ["images/a.jpg", "images/b.jpg"], id="Windows"),
    ],
)
def test_list_file(tmp_path, monkeypatch, content, expected):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    make(tmp_path, "images/a.jpg", "images/b.jpg", "images/a b.jpg", "images/c:d.jpg", "c:d.jpg")
    make(tmp_path, val_dot_txt=content.replace("ROOT", str(tmp_path)))
    make(tmp_path, data_dot_yaml="val: val.txt\nnames: [cat]\n")
    assert found(find_source(tmp_path / "data.yaml"), tmp_path) == expected


def test_links_to_folders_are_followed(tmp_path):
    make(tmp_path, "store/c.jpg", "store/deep/d.jpg", "store/.hidden/e.jpg", "images/val/a.jpg")
    (tmp_path / "images/val/more").symlink_to(tmp_path / "store")
    (tmp_path / "images/val/again").symlink_to("../../store/deep")
    (tmp_path / "images/val/.hidden").symlink_to(tmp_path / "store")
    (tmp_path / "images/val/b.jpg").symlink_to(tmp_path / "store/c.jpg")
    names = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path / "images")]
    expected = ["a.jpg", "again/d.jpg", "b.jpg", "more/c.jpg", "more/deep/d.jpg"]
    assert names == [f"images/val/{name}" for name in expected]


def test_loops_of_links_end(tmp_path):
    make(tmp_path, "images/x/a.jpg", "images/y/b.jpg")
    (tmp_path / "images/x/up").symlink_to("..")
    (tmp_path / "images/x/self").symlink_to("self")
    (tmp_path / "images/x/other").symlink_to("../y")
    (tmp_path / "images/y/other").symlink_to("../x")
    files = [file for file in files_below(tmp_path / "images") if file.name != "self"]
    names = [file.relative_to(tmp_path / "images").as_posix() for file in files]
    assert names == ["x/a.jpg", "x/other/b.jpg", "y/b.jpg", "y/other/a.jpg"]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    make(tmp_path, "images/a.jpg", "images/closed/b.jpg")
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"closed: the folder cannot be read \(Permission denied\)"):
        files_below(tmp_path / "images")


def test_images_in_other_formats_are_noted(tmp_path):
    make(
        tmp_path,
        "images/a.mpo",
        "images/b.DNG",
        "images/c.pfm",
        "images/d.gif",
        "images/e.HEIC",
        "images/f.x",
    )
    make(tmp_path, data_dot_yaml="val: images\nnames: [a]\n")
    source = find_source(tmp_path / "data.yaml")
    assert found(source, tmp_path) == ["images/a.mpo", "images/b.DNG", "images/c.pfm"]
    assert [path.name for path in source.skipped] == ["d.gif", "e.HEIC"]
    make(tmp_path, list_dot_txt="./images/a.mpo\n./images/d.gif\n")
    make(tmp_path, data_dot_yaml="val: list.txt\nnames: [a]\n")
    assert [path.name for path in find_source(tmp_path / "data.yaml").skipped] == ["d.gif"]


def test_images_in_other_formats_alone(tmp_path):
    make(tmp_path, "images/a.gif", data_dot_yaml="val: images\nnames: [a]\n")
    with pytest.raises(InputError, match=r"no images .* split val; 1 are in other formats, such as .*a\.gif"):
        find_source(tmp_path / "data.yaml")


def test_a_list_entry_may_start_from_the_working_folder(tmp_path, monkeypatch):
    make(tmp_path, "here/images/a.jpg", d__val_dot_txt="images/a.jpg\n")
    make(tmp_path, d__data_dot_yaml="val: val.txt\nnames: [cat]\n")
    monkeypatch.chdir(tmp_path / "here")
    assert found(find_source(tmp_path / "d/data.yaml"), tmp_path) == ["here/images/a.jpg"]


def test_a_list_file_that_is_no_text(tmp_path):
    make(tmp_path, data_dot_yaml="val: val.txt\nnames: [cat]\n")
    (tmp_path / "val.txt").write_bytes(b"./images/caf\xe9.jpg\n")
    with pytest.raises(InputError, match=r"val\.txt"):
        find_source(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("[cat, dog]", ("cat", "dog"), id="list"),
        pytest.param("{0: cat, 1: dog}", ("cat", "dog"), id="dict"),
        pytest.param("{1: dog, 0: cat}", ("cat", "dog"), id="dict out of order"),
        pytest.param("[1, 2.5]", ("1", "2.5"), id="numbers as names"),
        pytest.param("[cat, dog]\nnc: 2", ("cat", "dog"), id="with nc"),
        pytest.param("[cat, dog]\nnc: '2'", ("cat", "dog"), id="with nc in quotes"),
        pytest.param("[cat, dog]\nnc:", ("cat", "dog"), id="with nc empty"),
        pytest.param("{0: cat, 2: dog}", ("cat", "class1"), id="a gap, and a number beyond the classes"),
        pytest.param("{1: cat, 2: dog}", ("class0", "cat"), id="from 1"),
    ],
)
def test_names(tmp_path, names, expected):
    make(tmp_path, "images/a.jpg", data_dot_yaml=f"val: images\nnames: {names}\n")
    source = find_source(tmp_path / "data.yaml")
    assert (source.names, source.nc) == (expected, len(expected))


def test_unnamed_classes(tmp_path):
    make(tmp_path, "images/a.jpg", data_dot_yaml="val: images\nnames: {0: a, 3: b, 5: c, 6: d}\n")
    source = find_source(tmp_path / "data.yaml")
    assert (source.names, source.unnamed) == (("a", "class1", "class2", "b"), (1, 2))


def test_an_alias_bomb_ends(tmp_path):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    for key in ("val: images\nnames: *a11", "val: *a11\nnames: [a]", "val: images\nnames: [a]\nnc: *a11"):
        make(tmp_path, "images/a.jpg", data_dot_yaml=f"{bomb}{key}\n")
        with pytest.raises(InputError, match=r"is expected|but there are"):
            find_source(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("val: images\nnames: [a, b]\nnc: 3", "nc is 3, but there are 2 names", id="nc"),
        pytest.param("val: images\nnames: [a, b]\nnc: '3'", "nc is '3', but there are 2", id="nc in quotes"),
        pytest.param(
            "val: images\nnames: [a, b]\nnc: [2]", r"nc is \[2\], but there are 2", id="nc in a list"
        ),
        pytest.param("val: images\nnames: [a]\nnc: true", "nc is True, but there are 1", id="nc as yes"),
        pytest.param(
            "val: images\nnames: {a: 0}", "names has the number 'a'; 0, 1", id="the wrong way round"
        ),
        pytest.param(
            "val: images\nnames: {-1: a}", "names has the number -1; 0, 1, 2", id="a number below 0"
        ),
        pytest.param("val: images\nnames: {yes: a}", "names has the number True", id="a number that is yes"),
        pytest.param(
            "val: images\nnames: [a, [b]]", r"name 1 is \['b'\]; text is expected", id="a nested name"
        ),
        pytest.param("val: [[images]]\nnames: [a]", r"val is \['images'\]; a path is", id="a nested path"),
        pytest.param(
            "path: {a: b}\nval: images\nnames: [a]", "path is {'a': 'b'}; a path is", id="path a map"
        ),
        pytest.param("val: %s\nnames: [a]" % ("x" * 300), "val is 'xxx.*but there is no", id="too long"),
        pytest.param('val: "a\\0b"\nnames: [a]', "but there is no", id="a zero byte"),
        pytest.param("val: 2024-13-45\nnames: [a]", "cannot be read as yaml: month", id="no date"),
        pytest.param("val: 0x_\nnames: [a]", "cannot be read as yaml", id="0x"),
        pytest.param("val: 0b_\nnames: [a]", "cannot be read as yaml", id="0b"),
        pytest.param("val: 1:_\nnames: [a]", "cannot be read as yaml|but there is no", id="sexagesimal"),
        pytest.param("val: !!int ''\nnames: [a]", "cannot be read as yaml", id="an empty number"),
        pytest.param("val: !!timestamp x\nnames: [a]", "cannot be read as yaml", id="a date that is text"),
        pytest.param("val: &\nnames: [a]", "cannot be read as yaml", id="an empty anchor"),
        pytest.param("val: " + "[" * 5000, "cannot be read as yaml", id="nested too deep"),
        pytest.param("val: images\nnames: cat", "names is 'cat'; a list", id="names as text"),
        pytest.param("names: [a]", "no key 'val'$", id="no val"),
        pytest.param("val: images", "no key 'names'$", id="no names"),
        pytest.param("val:\nnames: []", "no key 'val' and no key 'names'", id="both empty"),
        pytest.param("train: images", "no key 'val' and no key 'names'", id="neither"),
        pytest.param("val: [images", "cannot be read as yaml", id="broken yaml"),
        pytest.param("a: b: c\n\tx", "cannot be read as yaml", id="no yaml"),
        pytest.param("just text", "keys and values are expected", id="text"),
        pytest.param("- val", "keys and values are expected", id="a list"),
        pytest.param("", "keys and values are expected", id="empty"),
        pytest.param("val: !!python/object/apply:os.getcwd []", "cannot be read as yaml", id="code"),
        pytest.param("val: none\nnames: [a]", "val is 'none', but there is no .*none", id="no such folder"),
        pytest.param("val: [images, none]\nnames: [a]", "val is 'none'", id="no such folder in a list"),
        pytest.param("val: notes.md\nnames: [a]", r"a folder or a list file \(\.txt\)", id="another file"),
        pytest.param("val: empty\nnames: [a]", r"no images \(.*\.jpg", id="no images in the folder"),
        pytest.param("val: empty.txt\nnames: [a]", r"no images \(.*\.jpg", id="no images in the list"),
        pytest.param("path: none\nval: images\nnames: [a]", "path is 'none', but there is no", id="no path"),
        pytest.param("val: images\nnames: [a]\nannotations: a.json", "annotations is 'a.json'", id="no file"),
    ],
)
def test_what_is_no_data_yaml(tmp_path, content, message):
    make(tmp_path, "images/a.jpg", "notes.md", "empty/a.txt", "empty.txt", data_dot_yaml=content)
    with pytest.raises(InputError, match=message) as caught:
        find_source(tmp_path / "data.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'data.yaml'}: ")
    assert "\n" not in str(caught.value)


def test_a_yaml_that_is_not_utf8(tmp_path):
    (tmp_path / "data.yaml").write_bytes(b"val: images\nnames: [caf\xe9]\n")
    with pytest.raises(InputError, match="cannot be read as yaml"):
        find_source(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("none.yaml", "no such data yaml or folder", id="missing"),
        pytest.param("data.json", "a data yaml .* or a folder is expected", id="another file"),
    ],
)
def test_what_is_neither_yaml_nor_folder(tmp_path, name, message):
    make(tmp_path, "data.json")
    with pytest.raises(InputError, match=message):
        find_source(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "lists", "expected", "annotations"),
    [
        pytest.param(["images/a.jpg", "labels/a.txt"], {}, ["images/a.jpg"], None, id="images and labels"),
        pytest.param(["a.jpg", "b/c.png"], {}, ["a.jpg", "b/c.png"], None, id="images only"),
        pytest.param(
            ["images/val/a.jpg", "images/train/b.jpg"], {}, ["images/val/a.jpg"], None, id="split by folder"
        ),
        pytest.param(
            ["images/val2017/a.jpg", "annotations/instances_val2017.json", "annotations/instances_x.json"],
            {},
            ["images/val2017/a.jpg"],
            "annotations/instances_val2017.json",
            id="COCO: the split's annotations",
        ),
        pytest.param(
            ["images/a.jpg", "annotations/instances_x.json", "annotations/captions_x.json"],
            {},
            ["images/a.jpg"],
            "annotations/instances_x.json",
            id="the one instances file there is",
        ),
        pytest.param(
            ["images/a.jpg", "annotations/instances_x.json", "annotations/instances_y.json"],
            {},
            ["images/a.jpg"],
            None,
            id="two instances files: neither",
        ),
        pytest.param(
            ["images/a.jpg", "images/b.jpg", "labels/a.txt"],
            {"list_dot_txt": "./images/b.jpg\n"},
            ["images/b.jpg"],
            None,
            id="the one list file",
        ),
        pytest.param(
            ["images/a.jpg", "images/b.jpg", "annotations/instances_val2017.json"],
            {"val2017_dot_txt": "./images/a.jpg\n", "train_dot_txt": "./images/b.jpg\n"},
            ["images/a.jpg"],
            "annotations/instances_val2017.json",
            id="the list file named val",
        ),
        pytest.param(
            ["valid/images/a.jpg", "valid/labels/a.txt", "train/images/b.jpg"],
            {},
            ["valid/images/a.jpg"],
            None,
            id="split above images",
        ),
        pytest.param(
            ["images/a.jpg", "labels/a.txt"],
            {"classes_dot_txt": "cat\ndog\n"},
            ["images/a.jpg"],
            None,
            id="a text file that lists no images, as labelling tools write it",
        ),
    ],
)
def test_folder(tmp_path, files, lists, expected, annotations):
    make(tmp_path, *files, **lists)
    source = find_source(tmp_path)
    assert found(source, tmp_path) == expected
    assert source.annotations == (None if annotations is None else tmp_path / annotations)
    assert (source.path, source.names, source.nc) == (tmp_path, None, None)


@pytest.mark.parametrize(
    ("content", "expected", "annotations"),
    [
        pytest.param(
            "train: images/train", ["images/train/b.jpg"], "annotations/instances_train.json", id="no val"
        ),
        pytest.param(
            "train: [images/train, images/more]\nval: none",
            ["images/more/c.jpg", "images/train/b.jpg"],
            "annotations/instances_train.json",
            id="val is not looked at",
        ),
        pytest.param(
            "train: train.txt", ["images/more/c.jpg"], "annotations/instances_train.json", id="list"
        ),
        pytest.param(
            "train: images/more\nannotations: gone.json",
            ["images/more/c.jpg"],
            None,
            id="the key annotations is val's",
        ),
    ],
)
def test_train_of_a_yaml(tmp_path, content, expected, annotations):
    make(tmp_path, "images/val/a.jpg", "images/train/b.jpg", "images/more/c.jpg")
    make(tmp_path, "annotations/instances_val.json", "annotations/instances_train.json")
    make(tmp_path, train_dot_txt="./images/more/c.jpg\n", data_dot_yaml=f"{content}\nnames: [a]\n")
    source = find_source(tmp_path / "data.yaml", "train")
    assert found(source, tmp_path) == expected
    assert source.annotations == (None if annotations is None else tmp_path / annotations)
    assert (source.names, source.nc) == (("a",), 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("val: images\nnames: [a]", "no key 'train'$", id="no train"),
        pytest.param("val: images", "no key 'train' and no key 'names'$", id="neither"),
        pytest.param("- a", r"expected \(path, train, names\)", id="a list"),
        pytest.param("train: none\nnames: [a]", "train is 'none', but there is no .*none", id="no folder"),
        pytest.param("train: a.md\nnames: [a]", r"train is 'a\.md'; a folder or a list", id="another file"),
        pytest.param("train: empty\nnames: [a]", r"no images \(.*\) for the split train", id="no images"),
    ],
)
def test_a_yaml_without_train(tmp_path, content, message):
    make(tmp_path, "images/a.jpg", "a.md", "empty/a.txt", data_dot_yaml=content)
    with pytest.raises(InputError, match=message):
        find_source(tmp_path / "data.yaml", "train")


@pytest.mark.parametrize(
    ("files", "lists", "expected", "annotations"),
    [
        pytest.param(
            ["images/a.jpg", "images/b.jpg", "annotations/instances_val2017.json"],
            {"val2017_dot_txt": "./images/a.jpg\n", "train2017_dot_txt": "./images/b.jpg\n"},
            ["images/b.jpg"],
            None,
            id="the list file named train, and not val's annotations",
        ),
        pytest.param(
            ["images/val/a.jpg", "images/train/b.jpg", "annotations/instances_train.json"],
            {},
            ["images/train/b.jpg"],
            "annotations/instances_train.json",
            id="the folder named train",
        ),
        pytest.param(
            ["images/val/a.jpg", "images/train/b.jpg"],
            {"val_dot_txt": "./images/val/a.jpg\n"},
            ["images/train/b.jpg"],
            None,
            id="a folder named train before the only list",
        ),
        pytest.param(
            ["valid/images/a.jpg", "train/images/b.jpg"], {}, ["train/images/b.jpg"], None, id="above images"
        ),
        pytest.param(
            ["images/a.jpg", "images/b.jpg"],
            {"mine_dot_txt": "./images/b.jpg\n"},
            ["images/b.jpg"],
            None,
            id="the only list",
        ),
        pytest.param(
            ["images/a.jpg", "annotations/instances_mine.json"],
            {},
            ["images/a.jpg"],
            "annotations/instances_mine.json",
            id="all images, the only annotations",
        ),
    ],
)
def test_train_of_a_folder(tmp_path, files, lists, expected, annotations):
    make(tmp_path, *files, **lists)
    source = find_source(tmp_path, "train")
    assert found(source, tmp_path) == expected
    assert source.annotations == (None if annotations is None else tmp_path / annotations)


def test_a_folder_of_train_images_alone_serves_for_both(tmp_path):
    make(tmp_path, "images/train2017/a.jpg", "annotations/instances_train2017.json")
    make(tmp_path, train2017_dot_txt="./images/train2017/a.jpg\n")
    assert find_source(tmp_path, "train") == find_source(tmp_path)


def test_the_test_split(tmp_path):
    make(tmp_path, "images/val/a.jpg", "images/test/b.jpg", "annotations/instances_test.json", "x/c.jpg")
    annotations = tmp_path / "annotations/instances_test.json"
    of_folder = find_source(tmp_path, "test")
    assert (found(of_folder, tmp_path), of_folder.annotations) == (["images/test/b.jpg"], annotations)
    make(tmp_path, data_dot_yaml="val: images/val\ntest: images/test\nnames: [a]\n")
    of_yaml = find_source(tmp_path / "data.yaml", "test")
    assert (found(of_yaml, tmp_path), of_yaml.annotations) == (["images/test/b.jpg"], annotations)


def test_no_test_split(tmp_path):
    make(tmp_path, "images/val/a.jpg")
    with pytest.raises(InputError, match="one list file or folder of images"):
        find_source(tmp_path, "test")
    make(tmp_path, data_dot_yaml="val: images/val\nnames: [a]\n")
    with pytest.raises(InputError, match=r"no key 'test'$"):
        find_source(tmp_path / "data.yaml", "test")


def test_a_folder_without_images(tmp_path):
    make(tmp_path, "labels/a.txt")
    with pytest.raises(InputError, match="no images"):
        find_source(tmp_path)


@pytest.mark.parametrize(
    "val", [pytest.param("valid/images", id="plain"), pytest.param("../valid/images", id="../, as exported")]
)
@pytest.mark.parametrize("given", ["folder", "yaml"])
def test_roboflow(tmp_path, val, given):
    """The yaml lies beside train/ and valid/, and yet says ../; YOLOv5 leaves that out."""
    make(tmp_path, "d/valid/images/a.jpg", "d/valid/labels/a.txt", "d/train/images/b.jpg")
    make(tmp_path, "d/README.dataset.txt", d__data_dot_yaml=f"val: {val}\nnc: 1\nnames: ['cat']\n")
    source = find_source(tmp_path / "d" if given == "folder" else tmp_path / "d" / "data.yaml")
    assert found(source, tmp_path) == ["d/valid/images/a.jpg"]
    assert source.names == ("cat",)


@pytest.mark.parametrize(
    ("extra", "files", "expected"),
    [
        pytest.param("", [], None, id="none"),
        pytest.param(
            "", ["annotations/instances_val.json"], "annotations/instances_val.json", id="by the split"
        ),
        pytest.param("", ["annotations/instances_train.json"], None, id="of another split"),
        pytest.param("annotations: my.json", ["my.json"], "my.json", id="the key"),
        pytest.param(
            "annotations: my.json",
            ["my.json", "annotations/instances_val.json"],
            "my.json",
            id="the key first",
        ),
    ],
)
def test_annotations(tmp_path, extra, files, expected):
    make(tmp_path, "images/val/a.jpg", *files, data_dot_yaml=f"val: images/val\nnames: [a]\n{extra}\n")
    annotations = find_source(tmp_path / "data.yaml").annotations
    assert annotations == (None if expected is None else tmp_path / expected)
