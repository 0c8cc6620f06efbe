"""Help texts: lines that 80 columns hold, options under headings, names that are not broken."""

import re
from typing import Any

import click
import pytest

from fgnumba.cli.main import COMMANDS
from fgnumba.cli.main import fgtrain as command
from fgnumba.cli.sections import SECTIONS, Formatter


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal_of_80_columns(fgtrain, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    lines = fgtrain(name, "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.search(r"\w-$", line)]
    assert sum(line.startswith(f"    fgtrain {name}") for line in lines) >= 1
    assert lines.index("  Examples:") > 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_shown_once(fgtrain, name):
    text = fgtrain(name, "--help").out
    shown: Any = command.get_command(click.Context(command), name)
    for parameter in shown.params:
        if isinstance(parameter, click.Option):
            assert len(re.findall(rf"^  {parameter.opts[0]}(?![\w-])", text, re.M)) == 1, parameter.name


def test_the_options_of_train_stand_under_headings(fgtrain):
    text = fgtrain("train", "--help").out
    found = re.findall(r"^([A-Z][A-Za-z ]+):$", text, re.M)
    assert found == list(SECTIONS)
    assert text.index("Optimiser:") < text.index("--learning-rate") < text.index("Run folder:")


def test_a_default_stays_with_its_word():
    formatter = Formatter(width=40)
    formatter.write_dl([("--long-option X", "A number that is needed here.  [default: 64]"), ("-x", "")])
    assert formatter.getvalue().splitlines() == [
        "--long-option X  A number that is needed",
        "                 here.  [default: 64]",
        "-x",
    ]
