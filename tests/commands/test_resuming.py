"""--resume without other flags goes on with those of the first start."""

import json

import pytest

from sparsity.base.errors import InputError
from sparsity.commands.resuming import complete

LINE = "sparsity finetune --weights 'my best.pt' --epochs 3"
FIRST = ["--weights", "my best.pt", "--epochs", "3"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("training.json", {"settings": {}, "command": LINE}),
        ("settings.json", {"settings": {}, "about": {"command": LINE}}),
        ("compare.json", {"command": f"{LINE} --resume old/place"}),
        (
            "sensitivity.json",
            {"command": LINE.replace("finetune", "finetune --resume=old")},
        ),
    ],
)
def test_the_first_start_names_the_flags(tmp_path, file, content):
    (tmp_path / file).write_text(json.dumps(content))
    (tmp_path / "last.pt").touch()
    last = str(tmp_path / "last.pt")
    assert complete(["--resume", str(tmp_path)]) == [*FIRST, "--resume", str(tmp_path)]
    assert complete(["--resume", last]) == [*FIRST, "--resume", last]
    assert complete([f"--resume={last}"]) == [*FIRST, "--resume", last]


@pytest.mark.parametrize("more", [["--epochs", "4"], ["--verbose"]])
def test_other_flags_leave_it_as_it_is(tmp_path, more):
    (tmp_path / "training.json").write_text(json.dumps({"command": LINE}))
    argv = [*more, "--resume", str(tmp_path)]
    assert complete(argv) == argv
    assert complete(more) == more
    assert complete([]) == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"command": 3}', '{"command": ""}', '{"about": []}', '{"command": "a \'b"}'],
)
def test_a_folder_without_a_command_leaves_it_as_it_is(tmp_path, text):
    (tmp_path / "training.json").write_text(text)
    argv = ["--resume", str(tmp_path)]
    assert complete(argv) == argv


@pytest.mark.parametrize("place", ["", "nowhere", "a.pt"])
def test_a_folder_without_a_run_is_refused(tmp_path, place):
    (tmp_path / "a.pt").touch()
    with pytest.raises(InputError, match="holds no run to go on with"):
        complete(["--resume", str(tmp_path / place)])
