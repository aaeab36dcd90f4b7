"""Commands that list, retry and delete dead letters: messages, and events of webhooks, that failed for good."""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from models.audit.entry import Action
from models.messaging.messages import QUEUES
from models.queue import DeadLetter, Queues
from models.store import Store
from worker.cli.context import load_settings, opened_queues, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotFound,
    WrongUsage,
    make_table,
    print_json,
    print_line,
    print_rich,
    report_errors,
)
from worker.operations.dead_letters import carry_out, carry_out_with_webhook, is_of_webhook, of_webhooks
from worker.operations.story import format_evidence


@report_errors
def dead_letters(context: typer.Context, as_json: AsJson = False) -> None:
    """List messages that failed for good, whose work the sweep has usually repeated since; and events of webhooks."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    with opened_queues(settings) as queues, opened_store(settings) as store:
        letters = _find_all(queues, store)
    if as_json:
        print_json(letters)
    elif not letters:
        print_line("There are no dead letters.")
    else:
        rows = [
            (each.id, each.died_at, each.queue, each.actor, format_evidence(each.kwargs), each.error)
            for each in letters
        ]
        print_rich(make_table(("id", "failed", "queue", "actor", "arguments", "error"), rows))


@report_errors
def retry(
    letter_id: Annotated[str | None, typer.Argument(metavar="ID", help="The dead letter's id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue a dead letter, or all of them, again."""
    if (letter_id is not None) == every:
        raise WrongUsage("Give either an ID or --all.")
    settings = load_settings()
    with opened_queues(settings) as queues, opened_store(settings) as store:
        found = _find_all(queues, store)
        chosen = found if letter_id is None else [_choose(found, letter_id)]
        readable = [letter for letter in chosen if letter.actor in QUEUES]
        retried = Action.dead_letter_retried
        sent = [letter.id for letter in readable if _carry_out(store, retried, letter, queues.retry)]
    if as_json:
        print_json({"sent": sent})
    else:
        print_line(f"{len(sent)} enqueued again.")
    if len(readable) < len(chosen):
        raise CommandFailed(_describe_unknown([letter for letter in chosen if letter not in readable]))


@report_errors
def drop(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The dead letter's id.")], as_json: AsJson = False
) -> None:
    """Delete a dead letter for good."""
    settings = load_settings()
    with opened_queues(settings) as queues, opened_store(settings) as store:
        letter = _choose(_find_all(queues, store), letter_id)
        dropped = _carry_out(store, Action.dead_letter_dropped, letter, queues.drop)
    if as_json:
        print_json({"dropped": [letter_id] if dropped else []})
    else:
        print_line("Deleted." if dropped else "It had already been deleted.")


def _find_all(queues: Queues, store: Store) -> Sequence[DeadLetter]:
    """Return the dead letters of messages and of webhooks, the oldest first."""
    with store.reading() as tx:
        letters = [*queues.dead_letters(), *of_webhooks(tx)]
    return sorted(letters, key=lambda letter: letter.died_at)


def _carry_out(store: Store, action: Action, letter: DeadLetter, act: Callable[[DeadLetter], bool]) -> bool:
    if is_of_webhook(letter):
        return carry_out_with_webhook(store, action, letter)
    return carry_out(store, action, letter, act)


def _choose(letters: Sequence[DeadLetter], letter_id: str) -> DeadLetter:
    found = next((letter for letter in letters if letter.id == letter_id), None)
    if found is None:
        raise NotFound(f"There is no dead letter {letter_id}. List them with breezesync dead-letters.")
    return found


def _describe_unknown(letters: Sequence[DeadLetter]) -> str:
    ids = ", ".join(letter.id for letter in letters)
    return f"Not enqueued, because no actor handles them: {ids}. Delete one with breezesync dead-letters drop ID."
