"""--resume without other flags goes on with those of the first start."""

import json

import pytest

from sparsity.base.errors import InputError
from sparsity.commands.resuming import complete

LINE = "sparsity finetune --weights 'my best.pt' --epochs 3"
FIRST = ["--weights", "my best.pt", "--epochs", "3"]


@pytest.mark.parametrize(
    ("command", "file", "content"),
    [
        ("finetune", "training.json", {"settings": {}, "command": LINE}),
        ("sweep", "settings.json", {"settings": {}, "about": {"command": LINE}}),
        ("compare", "compare.json", {"command": f"{LINE} --resume old/place"}),
        (
            "sensitivity",
            "sensitivity.json",
            {"command": LINE.replace("finetune", "finetune --resume=old")},
        ),
    ],
)
def test_the_first_start_names_the_flags(tmp_path, command, file, content):
    (tmp_path / file).write_text(json.dumps(content))
    (tmp_path / "last.pt").touch()
    last = str(tmp_path / "last.pt")
    assert complete(command, ["--resume", str(tmp_path)]) == [*FIRST, "--resume", str(tmp_path)]
    assert complete(command, ["--resume", last]) == [*FIRST, "--resume", last]
    assert complete(command, [f"--resume={last}"]) == [*FIRST, "--resume", last]


@pytest.mark.parametrize("more", [["--epochs", "4"], ["--verbose"]])
def test_other_flags_leave_it_as_it_is(tmp_path, more):
    (tmp_path / "training.json").write_text(json.dumps({"command": LINE}))
    argv = [*more, "--resume", str(tmp_path)]
    assert complete("finetune", argv) == argv
    assert complete("finetune", more) == more
    assert complete("finetune", []) == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"command": 3}', '{"command": ""}', '{"about": []}', '{"command": "a \'b"}'],
)
def test_a_folder_without_a_command_leaves_it_as_it_is(tmp_path, text):
    (tmp_path / "training.json").write_text(text)
    argv = ["--resume", str(tmp_path)]
    assert complete("finetune", argv) == argv


@pytest.mark.parametrize("place", ["", "nowhere", "a.pt"])
def test_a_folder_without_a_run_is_refused(tmp_path, place):
    (tmp_path / "a.pt").touch()
    with pytest.raises(InputError, match="holds no run of finetune to go on with"):
        complete("finetune", ["--resume", str(tmp_path / place)])


def test_a_run_of_another_command_is_refused(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"command": LINE}))
    with pytest.raises(InputError, match=r"holds no run of sweep to go on with \(no settings\.json\)"):
        complete("sweep", ["--resume", str(tmp_path)])


def test_a_command_that_does_not_resume_keeps_its_flags(tmp_path):
    assert complete("val", ["--resume", str(tmp_path)]) == ["--resume", str(tmp_path)]
