"""A line imports only what it asks for, and all commands when it may need them."""

from collections.abc import Collection

import pytest

from worker.__main__ import choose, commands, groups

everything = {*commands, *groups}


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        pytest.param("explain 3f9a --json", {"explain"}, id="a command"),
        pytest.param("explain --help", {"explain"}, id="a command's help"),
        pytest.param("keys rotate", {"keys"}, id="a group"),
        pytest.param("--version --json", set(), id="the version"),
        pytest.param("--help", everything, id="help shows all"),
        pytest.param("", everything, id="nothing, or a shell that completes"),
        pytest.param("--json status", everything, id="an option in the wrong place"),
        pytest.param("explian", everything, id="a mistake, for which another is proposed"),
    ],
)
def test_a_line_needs_the_command_that_it_names_or_all(line: str, chosen: Collection[str]) -> None:
    assert choose(line.split()) == chosen
