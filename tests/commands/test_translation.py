"""Errors of the package in the words of the command line."""

import pytest

from sparsity.commands.parsers import (
    convert_parser,
    finetune_parser,
    sensitivity_parser,
    sweep_parser,
    val_parser,
)
from sparsity.commands.translation import OTHER_NAMES, as_flags


@pytest.mark.parametrize(
    ("make_parser", "message", "expected"),
    [
        pytest.param(val_parser, "`batch_size` is 0", "--batch-size is 0", id="a flag of the same name"),
        pytest.param(val_parser, "`imgsz` is 0", "--imgsz is 0", id="the first of several spellings"),
        pytest.param(val_parser, "`amount` is 1.5", "--sparsity is 1.5", id="a flag of another name"),
        pytest.param(sweep_parser, "`amount` is 1.5", "LEVELS is 1.5", id="a flag without dashes"),
        pytest.param(sweep_parser, "`engine` is 'x'", "--engines is 'x'", id="the flag of several"),
        pytest.param(
            val_parser, "give a smaller `lr0`", "give a smaller `lr0`", id="a flag of other commands"
        ),
        pytest.param(finetune_parser, "`lr0`, or `warmup`", "--lr0, or --warmup", id="two"),
        pytest.param(convert_parser, "`target` is 'x'", "--for is 'x'", id="a flag that is no identifier"),
        pytest.param(val_parser, "its metadata `names`", "its metadata `names`", id="no argument"),
    ],
)
def test_arguments_become_flags(make_parser, message, expected):
    assert as_flags(message, make_parser("p")) == expected


def test_every_other_name_is_a_flag_of_a_command():
    parsers = (val_parser, sweep_parser, sensitivity_parser, convert_parser)
    known = {dest for make in parsers for dest in make("p").flags()}
    assert {dest for names in OTHER_NAMES.values() for dest in names} <= known
