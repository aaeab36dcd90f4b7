"""Whatever is decided about a connection, `explain` has words for it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker
from worker.cli.explain import meanings, problems

SOURCES = sorted(Path(worker.__file__).parent.rglob("*.py"))
OF_AUTHORIZATIONS = re.compile(r"(exchange|failed)\..*")


def literals(path: Path) -> Iterator[tuple[str, str]]:
    """Verbs of decisions and names of problems that stand in a room's source, each with which of the two it is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("decide", "_note"):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from (("verb", text) for text in texts[:1])
        for keyword in node.keywords:
            if keyword.arg == "problem" and isinstance(keyword.value, ast.Constant) and keyword.value.value:
                yield "problem", str(keyword.value.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_decision_and_every_problem_has_words(path: Path) -> None:
    found = set(literals(path))
    verbs = {text for kind, text in found if kind == "verb" and not OF_AUTHORIZATIONS.fullmatch(text)}
    assert verbs - set(meanings) == set()
    assert {text for kind, text in found if kind == "problem"} - set(problems) == set()


def test_the_search_finds_something() -> None:
    found = {pair for path in SOURCES for pair in literals(path)}
    assert ("verb", "refresh.saved") in found
    assert ("problem", "token_unreadable") in found
