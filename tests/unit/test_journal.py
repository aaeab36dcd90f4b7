"""Every word that the source writes into the journal is a member of its enum and has a sentence."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import models
import scheduler
import worker
from models.journal import ListProblem, Problem, Verb, Word, sentence_of
from models.messaging.events import FailureReason, RevokedReason
from models.oauth.unknown_outcome import Verdict

PACKAGES = (models, scheduler, worker)
SOURCES = sorted(path for package in PACKAGES for path in Path(str(package.__file__)).parent.rglob("*.py"))


def texts(node: ast.AST) -> Iterator[str]:
    """The strings that an expression can be: a constant, or either branch of a conditional."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*texts(body), *texts(orelse))
        case ast.Dict(values=values):
            for value in values:
                yield from texts(value)


def problems_of(tree: ast.AST) -> Iterator[str]:
    """What is passed as a connection's problem."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="problem", value=value):
                yield from texts(value)
            case _:
                pass


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_problem_in_the_source_is_a_member(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert [problem for problem in problems_of(tree) if problem not in list(Problem)] == []


def test_the_search_finds_problems() -> None:
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    assert {problem for tree in trees for problem in problems_of(tree)} >= {"token_unreadable", "plan_required"}


def test_every_outcome_that_becomes_part_of_a_verb_is_a_member() -> None:
    made = [f"failed.{reason}" for reason in get_args(FailureReason)]
    made += [f"revoked.{reason}" for reason in get_args(RevokedReason)]
    made += [f"resolved.{verdict.__name__.lower()}" for verdict in get_args(Verdict)]
    assert [verb for verb in made if verb not in list(Verb)] == []


@pytest.mark.parametrize("words", [Verb, Problem, ListProblem])
def test_every_word_is_stored_as_itself_and_has_a_sentence_of_its_own(words: type[Word]) -> None:
    members = list(words)
    assert [words(str(word)) for word in members] == members
    assert all(word.sentence for word in members)
    assert len({word.sentence for word in members}) == len(members)


def test_a_word_of_another_version_is_shown_as_it_is() -> None:
    assert sentence_of(Verb, "refresh.dreamt") == "refresh.dreamt"
    assert sentence_of(Verb, "refresh.saved") == Verb.refresh_saved.sentence
