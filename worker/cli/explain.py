"""`breezesync explain`: what was decided about a connection or an authorization, and what happens next."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from models.journal import Decision, ListProblem, Request, Verb, sentence_of
from models.oauth.authorization import Confirmation
from models.sync.sync_run import plan_lists
from worker.cli.context import load_settings, opened_store
from worker.cli.output import AsJson, WrongUsage, make_table, print_json, print_rich, report_errors
from worker.cli.subjects import find_of_user, find_subject
from worker.operations.story import (
    AuthorizationStory,
    ConnectionStory,
    describe_progress,
    describe_state,
    describe_step,
    format_evidence,
    story_of,
)
from worker.operations.texts import to_text

shown_calls = 5


@report_errors
def explain(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="The id of a connection or an authorization, or how it begins."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="All connections of this user, or else the last attempt.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain one connection or authorization: its state, what was decided and why, and what happens next."""
    if (subject is None) == (user is None):
        raise WrongUsage("Give either an ID or --user.")
    settings = load_settings()
    with opened_store(settings) as store, store.reading() as tx:
        found = [find_subject(tx, subject)] if subject is not None else find_of_user(tx, user or "")
        providers = {each.name: each for each in settings.providers}
        stories = [story_of(tx, providers, each, shown_calls) for each in found]
    if as_json:
        print_json(stories[0].as_json() if user is None else [story.as_json() for story in stories])
        return
    for number, story in enumerate(stories):
        if number:
            print_rich("")
        _show(story)


def _show(story: ConnectionStory | AuthorizationStory) -> None:
    match story:
        case ConnectionStory():
            _show_connection(story)
        case AuthorizationStory():
            _show_authorization(story)


def _show_connection(story: ConnectionStory) -> None:
    found, run = story.found, story.run
    owner = f"{found.user_id} at {found.provider}, account {found.account_id} {found.email or ''}".rstrip()
    _print_head(owner, describe_state(found))
    _print_journal(story.decisions, story.calls)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(story.records.items()))
    print_rich(f"\n[bold]Records[/] {escape(counts or 'none')}")
    for name, problem in story.problems.items():
        print_rich(escape(f"  {name}: {sentence_of(ListProblem, problem)}"))
    if run is not None and story.profile is not None:
        keys = [each.key for each in plan_lists(story.profile, found.team_ids, run.depth, run.parents)]
        progress = describe_progress(run, keys, story.totals)
        print_rich(f"[bold]Syncing[/] {escape(progress)}, since {to_text(run.started_at)}")
    _print_next(story.next_steps)


def _show_authorization(story: AuthorizationStory) -> None:
    found = story.found
    _print_head(f"authorization of {found.user_id} at {found.provider}", describe_step(found))
    by_page = found.confirmation is Confirmation.page
    confirmed = "a person confirmed on our page" if by_page else "the application confirmed"
    happened = [
        (found.created_at, "the link was opened"),
        (found.confirmed_at, confirmed),
        (found.code_received_at, "the code arrived"),
        (found.presented_at, "the code was sent to the token endpoint"),
    ]
    print_rich("[bold]Steps[/]", make_table((), sorted((at, step) for at, step in happened if at is not None)))
    _print_journal(story.decisions, story.calls)
    _print_next(story.next_steps)


def _print_head(owner: str, state: str) -> None:
    print_rich(f"[bold]{escape(owner)}[/]\n{escape(state)}\n")


def _print_journal(decisions: Sequence[Decision], calls: Sequence[Request]) -> None:
    print_rich("[bold]Decisions[/]", make_table((), [(d.at, _describe_decision(d)) for d in decisions]))
    if calls:
        rows = [(c.at, c.method, c.path, c.status or "no response", f"{c.duration_ms} ms") for c in calls]
        print_rich("\n[bold]Last requests[/]", make_table((), rows))


def _describe_decision(decision: Decision) -> str:
    """Return the decision's sentence, and its evidence on a second line, so that both fit on a narrow terminal."""
    evidence = format_evidence(decision.evidence)
    return sentence_of(Verb, decision.verb) + (f"\n  {evidence}" if evidence else "")


def _print_next(steps: Sequence[str]) -> None:
    print_rich("[bold]Next[/]")
    print_rich(make_table((), [("  -", step) for step in steps]))
