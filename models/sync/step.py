"""What the answer to a step of a sync does: to its run, its connection and its records.

A run ends in one of three ways, all decided here. It is completed if every list was read or is not ours to read. It
failed if the account itself cannot be read, if every list is forbidden, or if it had to skip a list that kept failing.
It ended if the grant is dead.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from models.api_response import Failed, Forbidden, Missing, Throttled, Unauthorized
from models.journal import ListProblem, Note, Problem, Verb
from models.messaging import messages
from models.messaging.events import SyncCompleted, SyncFailed
from models.oauth.access_refusal import Final, Force, Known, Superseded, judge_access_refusal
from models.oauth.claims import Claims
from models.oauth.connection import Connection, limit_access, note_problem, revoke, why_refused
from models.oauth.credential import Credential
from models.oauth.refresh_policy import spread
from models.rate_limit import Wait
from models.sync.absence import ends_list, is_unreadable
from models.sync.cadence import plan_next
from models.sync.decision import (
    ListSkipped,
    NothingLeft,
    NothingYet,
    PageRead,
    ParentsNeeded,
    StepDecision,
    StepRows,
    go_on,
    park,
)
from models.sync.list_end import skip_list
from models.sync.page import keep_page
from models.sync.parents import fix_parents
from models.sync.refusal import is_recovered
from models.sync.sync_run import SyncRun, fail, finish, gives_up, has_changes, on_its_way, retry_delay

failures_noted = 2
usual_wait = timedelta(seconds=61)
"""A rate limit is counted by the minute and a second, so a sync waits up to that long without any trouble."""
StepAnswer = (
    PageRead | Unauthorized | Forbidden | Missing | Throttled | Failed | Wait | ParentsNeeded | NothingYet | NothingLeft
)


def decide_step(rows: StepRows, answer: StepAnswer, now: datetime) -> StepDecision:
    """Return what the answer does; the rows were read and locked after it came."""
    match answer:
        case PageRead():
            return _take_page(rows, answer, now)
        case Unauthorized():
            return _refuse(rows, now)
        case Forbidden():
            return _forbid(rows, now)
        case Missing():
            return skip_list(rows, ListProblem.not_found, now)
        case Throttled(retry_after):
            return _wait(rows, retry_after, now)
        case Wait(seconds):
            return _wait(rows, timedelta(seconds=seconds), now)
        case Failed():
            return _retry(rows, answer, now)
        case ParentsNeeded() | NothingYet() | NothingLeft():
            return _decide_unanswered(rows, answer, now)
        case _:
            assert_never(answer)


def _decide_unanswered(
    rows: StepRows, instead: ParentsNeeded | NothingYet | NothingLeft, now: datetime
) -> StepDecision:
    match instead:
        case ParentsNeeded():
            return fix_parents(rows, now)
        case NothingYet():
            return go_on(_begin(rows, now), rows.run)
        case NothingLeft():
            return _end_run(rows, now)


def hand_on(rows: StepRows, now: datetime) -> StepDecision:
    """Release the run to the message that continues it; the sweep sends one too if that message is lost."""
    decision = park(_begin(rows, now), rows.run, now)
    return replace(decision, claims=replace(decision.claims, sync=now + on_its_way))


def may_end_list(rows: StepRows, answer: StepAnswer) -> bool:
    """Whether the answer may end the list, so that the decision needs to know what is stored about its resource."""
    match answer:
        case PageRead(account_id=None) if rows.is_account(rows.sync_list):
            return gives_up(_with_failure(rows.run))
        case PageRead(seen=seen, cursor=cursor):
            return (
                rows.run.page == 0
                or is_unreadable(seen)
                or ends_list(seen, rows.page.earlier, rows.provider.longest_list, cursor is not None)
            )
        case Forbidden() | Missing():
            return True
        case Failed(is_lasting=is_lasting):
            return gives_up(_with_failure(rows.run), is_lasting)
        case Unauthorized():
            return gives_up(_with_failure(rows.run))
        case _:
            return False


def _begin(rows: StepRows, now: datetime) -> StepDecision:
    return StepDecision(subject=rows.connection, at=now)


def _wait(rows: StepRows, pause: timedelta, now: datetime) -> StepDecision:
    """Wait for a rate limit. More than its usual minute is noted, once until a page is read again."""
    decision, connection = _begin(rows, now), rows.connection
    if pause > usual_wait and connection.problem is None:
        note = Note(Verb.sync_throttled, {"list": rows.sync_list.label, "seconds": round(pause.total_seconds())})
        decision = replace(decision, connection=replace(connection, problem=Problem.throttled), notes=(note,))
    return park(decision, rows.run, now + pause)


def _forbid(rows: StepRows, now: datetime) -> StepDecision:
    """A 403 for a list skips that list; for the account it means the plan, and nothing else is requested."""
    if not rows.is_account(rows.sync_list):
        return skip_list(rows, ListProblem.plan_required, now)
    skipped = ListSkipped(rows.sync_list.key, ListProblem.plan_required)
    return replace(_limit(rows, now), lists=(skipped,))


def _refuse(rows: StepRows, now: datetime) -> StepDecision:
    """A 401 for an older token: continue with the current one. For the current one: force one refresh.

    Without a refresh token the 401 is final, unless too many others were refused as well (see `refusal.py`). If a
    refresh was forced a moment ago, and its new token is refused too, it is the list that fails.
    """
    credential, decision = rows.credential, _begin(rows, now)
    if credential is None:
        return decision
    refusal = judge_access_refusal(
        rows.connection, credential, rows.generation, credential.refresh_token is not None, now
    )
    match refusal:
        case Superseded():
            return park(decision, rows.run, now)
        case Final():
            return _revoke(rows, credential, now)
        case Force():
            return _force_refresh(rows, refusal, now)
        case Known(is_same):
            refused = note_problem(rows.connection, Problem.access_refused)
            if is_same:
                return park(replace(decision, connection=refused), rows.run, now + retry_delay(4))
            failed = Failed("HTTP 401 for a token that was only just issued")
            return replace(_retry(replace(rows, connection=refused), failed, now), subject=rows.connection)
        case _:
            assert_never(refusal)


def _revoke(rows: StepRows, credential: Credential, now: datetime) -> StepDecision:
    connection = rows.connection
    reason = why_refused(connection, now)
    ended, facts = revoke(connection, reason, "api", now, f"/auth/{connection.provider}")
    note = Note(Verb(f"revoked.{reason}"), {"generation": rows.generation, "status": 401})
    return StepDecision(
        subject=connection,
        at=now,
        connection=ended,
        credential=credential,
        facts=facts,
        notes=(note,),
        ended=reason,
    )


def _force_refresh(rows: StepRows, forced: Force, now: datetime) -> StepDecision:
    """Refresh at once; the sweep does it if the message is lost."""
    decision = StepDecision(
        subject=rows.connection,
        at=now,
        connection=replace(rows.connection, refresh_due_at=now),
        credential=forced.credential,
        claims=Claims(refresh=now + on_its_way, sync=None),
        notes=(forced.note,),
        send=(messages.carry_out_refresh(rows.connection.id),),
    )
    return park(decision, rows.run, now + retry_delay(3))


def _retry(rows: StepRows, failed: Failed, now: datetime) -> StepDecision:
    """Try a list that fails a few times; then skip it, so that the run continues and ends as failed.

    If the account itself cannot be read, the run fails at once.
    """
    run, sync_list = _with_failure(rows.run), rows.sync_list
    reason = "unreadable" if failed.is_lasting else "provider_unavailable"
    if not gives_up(run, failed.is_lasting):
        decision = _note_failing(rows, run, failed, now)
        return park(decision, run, now + retry_delay(run.failures, failed.retry_after))
    if rows.is_account(sync_list):
        return _fail(replace(rows, run=run), reason, failed.why, now)
    where = f"{sync_list.label} ({sync_list.labelled_path})" if failed.is_lasting else sync_list.label
    description = run.description or f"{where}: {failed.why}"
    given_up = replace(run, reason=run.reason or reason, description=description)
    return skip_list(replace(rows, run=given_up), ListProblem.unreadable, now)


def _note_failing(rows: StepRows, run: SyncRun, failed: Failed, now: datetime) -> StepDecision:
    """Note at its second failure in a row that a list keeps failing, and why; further ones are no news."""
    connection, decision = rows.connection, _begin(rows, now)
    if run.failures != failures_noted:
        return replace(decision, connection=connection)
    note = Note(Verb.list_failing, {"list": rows.sync_list.label, "why": failed.why})
    problem = connection.problem or Problem.list_failing
    return replace(decision, connection=replace(connection, problem=problem), notes=(note,))


def _take_page(rows: StepRows, answer: PageRead, now: datetime) -> StepDecision:
    """Keep a page, unless it is another account's or its records have no id: then nothing of it is written."""
    if rows.is_account(rows.sync_list):
        if answer.account_id is None:
            return _retry(rows, Failed("the account's answer names no account"), now)
        if answer.account_id != rows.connection.account_id:
            return _fail(rows, "account_mismatch", "the API answered for another account; nothing was written", now)
    return _skip_unreadable(rows, now) if is_unreadable(answer.seen) else keep_page(rows, answer, now)


def _skip_unreadable(rows: StepRows, now: datetime) -> StepDecision:
    """Skip a list whose records have no id; asking for it again would not help, and the run ends as failed."""
    run = rows.run
    description = f"{rows.sync_list.label}: no record has an id"
    marked = replace(run, reason=run.reason or "unreadable", description=run.description or description)
    return skip_list(replace(rows, run=marked), ListProblem.nameless_records, now)


def _end_run(rows: StepRows, now: datetime) -> StepDecision:
    """Complete the run after its last list. It fails if every list is forbidden, which limits the account as a 403 for
    the account does, or if it had to skip a list that kept failing."""
    run, keys = rows.run, [each.key for each in rows.plan if not rows.is_account(each)]
    if keys and all(rows.problems.get(key) == ListProblem.plan_required for key in keys):
        return _limit(rows, now)
    if run.reason is not None:
        return _fail(rows, run.reason, run.description or "", now)
    duration_ms = round((now - run.started_at).total_seconds() * 1000)
    finished = finish(run, now)
    problem = Problem.plan_required if rows.connection.access_limited else None
    planned = _plan_next(rows, rows.connection, finished, now)
    return StepDecision(
        subject=rows.connection,
        at=now,
        connection=replace(note_problem(planned, problem), last_synced_at=now),
        run=finished,
        facts=(SyncCompleted(run.id, run.counts, duration_ms),) if _is_news(rows) else (),
    )


def _is_news(rows: StepRows) -> bool:
    """Whether an application hears of a completed run: one that someone asked for, the first of a connection, or one
    that found a change. A scheduled run that found nothing only moves `last_synced_at`."""
    return rows.run.requested or rows.connection.last_synced_at is None or has_changes(rows.run.counts)


def _limit(rows: StepRows, now: datetime) -> StepDecision:
    recovered = is_recovered(rows)
    limited, facts = limit_access(replace(rows.connection, problem=None) if recovered else rows.connection)
    decision = _fail(
        replace(rows, connection=limited), "plan_required", "the account's plan has no API access (403)", now
    )
    connection = note_problem(decision.connection or limited, Problem.plan_required)
    every_fact = (*facts, *decision.facts)
    return replace(decision, subject=rows.connection, connection=connection, facts=every_fact, recovered=recovered)


def _fail(rows: StepRows, reason: str, description: str, now: datetime) -> StepDecision:
    failed = fail(rows.run, reason, description, now)
    planned = _plan_next(rows, rows.connection, failed, now)
    return StepDecision(
        subject=rows.connection,
        at=now,
        connection=note_problem(planned, Problem.sync_failing),
        run=failed,
        facts=(SyncFailed(failed.id, reason, description),),
        notes=(Note(Verb.sync_failed, {"reason": reason, "description": description}),),
    )


def _plan_next(rows: StepRows, connection: Connection, run: SyncRun, now: datetime) -> Connection:
    position = spread(connection.id, int(now.timestamp()))
    return plan_next(connection, run, rows.provider, rows.interval, position, now)


def _with_failure(run: SyncRun) -> SyncRun:
    return replace(run, failures=run.failures + 1)
