"""Every command shows an example that can be typed, and completes at Tab."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.conftest import command_line
from worker.cli.examples import EXAMPLES


def walk(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from walk(command, (*path, name))


COMMANDS = dict(walk(cast(Any, typer.main.get_command(command_line()))))


def test_each_command_has_an_example_and_each_example_a_command() -> None:
    assert set(EXAMPLES) == {" ".join(path) for path in COMMANDS}


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_help_shows_what_it_does_and_an_example(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(command_line(), [*path, "--help"], prog_name="breezesync", env={"COLUMNS": "150"})
    assert shown.exit_code == 0
    assert COMMANDS[path].help
    for example in EXAMPLES[" ".join(path)]:
        assert example in shown.stdout


@pytest.mark.parametrize("line", sorted({line for lines in EXAMPLES.values() for line in lines}))
def test_an_example_is_right_usage(line: str) -> None:
    words = shlex.split(line.split(" < ", maxsplit=1)[0])[1:]
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in COMMANDS:
        path = (*path, words.pop(0))
    values = ["breezesync" if word == "-" else word for word in words if not word.endswith(".txt")]
    if len(values) == len(words):  # a file of an example does not exist here
        COMMANDS[path].make_context("breezesync", values)


def test_the_shell_completes_commands() -> None:
    asked = {"_BREEZESYNC_COMPLETE": "complete_bash", "COMP_WORDS": "breezesync con", "COMP_CWORD": "1"}
    found = subprocess.run(
        [sys.executable, "-m", "worker"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["connect-link", "connect-token", "connections", "confirm"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("connections --status re", ["revoked"]),
        ("connections --problem re", ["refresh_malformed", "refused"]),
        ("events --type record.", ["record.created", "record.deleted", "record.updated"]),
    ],
)
def test_the_shell_completes_values(words: str, expected: list[str]) -> None:
    asked = {"_BREEZESYNC_COMPLETE": "complete_bash", "COMP_WORDS": f"breezesync {words}", "COMP_CWORD": "3"}
    shown = CliRunner().invoke(command_line(), [], prog_name="breezesync", env=asked)
    assert shown.stdout.split() == expected
