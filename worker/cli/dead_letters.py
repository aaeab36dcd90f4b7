"""What failed for good: listed, tried again, forgotten."""

from collections.abc import Sequence
from typing import Annotated

import typer

from models.messaging.messages import QUEUES
from models.queue import DeadLetter, Queues
from worker.cli.context import opened_queues, settings_for
from worker.cli.explain import tell_evidence
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotThere,
    WrongUsage,
    plainly,
    say,
    say_json,
    say_rich,
    tabulate,
)


@plainly
def dead_letters(context: typer.Context, as_json: AsJson = False) -> None:
    """List what failed for good; the sweep has long sent most of it again."""
    if context.invoked_subcommand is not None:
        return
    with opened_queues(settings_for()) as queues:
        letters = queues.dead_letters()
    if as_json:
        say_json(letters)
    elif not letters:
        say("There are none.")
    else:
        rows = [
            (each.id, each.died_at, each.queue, each.actor, tell_evidence(each.kwargs), each.error) for each in letters
        ]
        say_rich(tabulate(("id", "died", "queue", "actor", "with", "error"), rows))


@plainly
def retry(
    letter_id: Annotated[str | None, typer.Argument(metavar="ID", help="The dead letter's id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a dead letter, or all of them, once more."""
    if (letter_id is not None) == every:
        raise WrongUsage("Name either an ID or --all.")
    with opened_queues(settings_for()) as queues:
        chosen = queues.dead_letters() if letter_id is None else [_get(queues, letter_id)]
        readable = [letter for letter in chosen if letter.actor in QUEUES]
        sent = [letter.id for letter in readable if queues.retry(letter)]
    if as_json:
        say_json({"sent": sent})
    else:
        say(f"{len(sent)} sent once more.")
    if len(readable) < len(chosen):
        raise CommandFailed(_tell_unreadable([letter for letter in chosen if letter not in readable]))


@plainly
def drop(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The dead letter's id.")], as_json: AsJson = False
) -> None:
    """Forget a dead letter for good."""
    with opened_queues(settings_for()) as queues:
        dropped = queues.drop(_get(queues, letter_id))
    if as_json:
        say_json({"dropped": [letter_id] if dropped else []})
    else:
        say("Dropped." if dropped else "It was gone already.")


def _get(queues: Queues, letter_id: str) -> DeadLetter:
    found = next((letter for letter in queues.dead_letters() if letter.id == letter_id), None)
    if found is None:
        raise NotThere(f"There is no dead letter {letter_id}; breezesync dead-letters lists them.")
    return found


def _tell_unreadable(letters: Sequence[DeadLetter]) -> str:
    ids = ", ".join(letter.id for letter in letters)
    return f"No actor takes these, they stay where they are: {ids}. breezesync dead-letters drop ID forgets one."
