"""The verdict finds each violation that is planted into a clean run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.torture.chaos.evidence import Connected, Decided, Evidence, Failed, Published
from tests.torture.chaos.verdict import columns, draw, judge


def published(position: int, type_: str, sequence: int, **data: Any) -> Published:
    return Published(
        position, f"e{position}", f"connection.{type_}", "c1", "c1", "events", sequence, data, float(position)
    )


def token(number: int, *outcomes: str, at: float = 1.5) -> dict[str, Any]:
    return {"id": number, "user_id": 1, "presentations": [presented(outcome, at=at) for outcome in outcomes]}


def presented(outcome: str, fault: str | None = None, at: float = 1.5) -> dict[str, Any]:
    return {"at": at, "outcome": outcome, "fault": fault}


def line(
    point: str, call: str = "k1", pid: int = 7, subject: str = "c1", at: float = 1.5, **facts: Any
) -> dict[str, Any]:
    return {"point": point, "call": call, "pid": pid, "subject": subject, "at": at, **facts}


answered = line("refresh.save.answered", outcome="TokensGranted")
events = [published(1, "authorized", 1), published(2, "refreshed", 2, generation=2)]

# One connection, authorized, refreshed once.
clean = Evidence(
    connections=[Connected("c1", 1, "active", 2, at_rest=True)],
    decisions=[Decided("c1", "authorized", 1), Decided("c1", "refresh.saved", 2)],
    events=events,
    delivered=[("events", "c1", 1, "e1"), ("events", "c1", 2, "e2"), ("events", "c1", 2, "e2")],
    refresh_tokens=[token(1, "rotated"), token(2)],
    traces=[answered, line("refresh.save.committed")],
)


def send_twice(first: float, second: float, answered: float | None = None) -> list[dict[str, Any]]:
    """The traces of two jobs that present a code, and of the first one's answer."""
    answer = [line("exchange.keep.answered", "k2", at=answered, outcome="GrantRefused")] if answered else []
    return [
        line("exchange.take.begin", "k2", at=first),
        line("exchange.request", "k2", at=first + 0.1),
        *answer,
        line("exchange.take.begin", "k3", pid=8, at=second - 0.1),
        line("exchange.request", "k3", pid=8, at=second),
    ]


def end(evidence: Evidence, reason: str, *outcomes: str, revoked: bool = False) -> Evidence:
    """The same connection with its end: why, and what the provider saw of its last token."""
    ended = published(3, "reauthorization_required", 3, reason=reason)
    return replace(
        evidence,
        connections=[Connected("c1", 1, "revoked", 2, at_rest=True)],
        events=[*events, ended],
        delivered=[*evidence.delivered, ("events", "c1", 3, "e3")],
        refresh_tokens=[token(1, "rotated"), token(2, *outcomes, at=2.5)],
        revocations=[(1, 2.2)] if revoked else [],
    )


def fail(
    reason: str, *presentations: dict[str, Any], after: float = 600, is_kept_back: bool = False, revoked: bool = False
) -> Evidence:
    """A clean run with a failed authorization: why, what the provider saw of its code, and how long that lived."""
    failed = Published(
        9,
        "e9",
        "connection.authorization_failed",
        "",
        "authorization/a1",
        "events",
        1,
        {"authorization_id": "a1", "reason": reason},
        5.0 + after,
    )
    return replace(
        clean,
        decisions=[*clean.decisions, *([Decided("a1", "exchange.kept_back", None)] if is_kept_back else [])],
        events=[*events, failed],
        delivered=[*clean.delivered, ("events", "authorization/a1", 1, "e9")],
        failures=[Failed("a1", 1, reason, 5.0, 605.0, presentations)],
        revocations=[(1, 6.0)] if revoked else [],
    )


def test_runs_are_counted_by_flow() -> None:
    other = [line("exchange.request", call="k2"), line("exchange.returned", call="k3")]
    runs = judge(replace(clean, traces=[*clean.traces, *other])).runs
    assert runs == {"exchange jobs": 2, "refresh jobs": 1, "of them about to send a code or token": 1}


def test_a_run_without_violations_is_clean() -> None:
    assert judge(clean).violations == {column: [] for column in columns}


harmless: dict[str, Evidence] = {
    "lost in the middle": end(clean, "rotation_lost", "burnt"),
    "lost, and revoked as well": end(clean, "rotation_lost", "rotated", revoked=True),
    "revoked, seen by a refresh": end(clean, "refresh_rejected", "revoked", revoked=True),
    "revoked, seen by the API": end(clean, "access_revoked", "revoked", revoked=True),
    "revoked, and dated by a busy process": replace(
        end(clean, "access_revoked", revoked=True),
        refresh_tokens=[token(1, "rotated"), token(2, "revoked", at=3.9)],
    ),
    "revoked after an unknown answer": replace(
        end(clean, "rotation_lost", "not_reached", "revoked", revoked=True),
        decisions=[
            *clean.decisions,
            Decided("c1", "resolved.presentagain", 2),
            Decided("c1", "revoked.rotation_lost", 2),
        ],
    ),
    "revoked after an unknown answer, where reuse ends the family": replace(
        end(clean, "rotation_lost", "not_reached", revoked=True),
        decisions=[*clean.decisions, Decided("c1", "resolved.lost", 2), Decided("c1", "revoked.rotation_lost", 2)],
    ),
    "presented again": replace(
        clean,
        refresh_tokens=[token(1, "rotated", "reused")],
        decisions=[*clean.decisions, Decided("c1", "resolved.presentagain", 1)],
    ),
    "presented three times, each time after an answer that was lost": replace(
        clean,
        refresh_tokens=[token(1, "rotated", "reused", "reused")],
        decisions=[*clean.decisions, *[Decided("c1", "resolved.presentagain", 1)] * 2],
    ),
    "presented three times, twice answered 503": replace(
        clean,
        refresh_tokens=[
            {"id": 1, "user_id": 1, "presentations": [*[presented("rotated", "after:503")] * 2, presented("reused")]}
        ],
        reuse="family_revoked",
    ),
    "presented again, unspent": replace(clean, refresh_tokens=[token(1, "not_reached", "not_reached", "rotated")]),
    "killed with a pair in hand": replace(clean, traces=[answered], killed=frozenset({7})),
    "a code whose answer was lost": fail("answer_lost", presented("burnt", "middle:drop")),
    "a code refused because its user revoked": fail("code_rejected", presented("revoked"), revoked=True),
    "a code that outlived two outages": fail(
        "provider_unavailable", presented("not_reached", "before:503"), presented("not_reached", "before:html")
    ),
    "a code that the breaker kept back for its whole life": fail("provider_unavailable", is_kept_back=True),
    "a code that the breaker kept back after an outage": fail(
        "provider_unavailable", presented("not_reached", "before:drop"), is_kept_back=True
    ),
    "a code that the provider calls too old, after an outage": fail(
        "provider_unavailable", presented("not_reached", "before:429"), presented("expired"), after=599
    ),
    "a code that was granted and answered 503": fail("provider_unavailable", presented("exchanged", "after:503")),
    "a code sent again after a lease": replace(clean, traces=[*clean.traces, *send_twice(first=1.0, second=3.0)]),
    "a code sent again after an answer": replace(
        clean, traces=[*clean.traces, *send_twice(first=1.0, answered=1.2, second=1.3)]
    ),
    "parked and taken in": replace(
        clean, traces=[answered, line("refresh.save.parked", kept=True, ticket="refresh-c1-1")]
    ),
}


@pytest.mark.parametrize("case", harmless)
def test_what_is_allowed_is_no_violation(case: str) -> None:
    assert judge(harmless[case]).is_clean, judge(harmless[case]).violations


planted: dict[str, tuple[str, Callable[[], Evidence]]] = {
    "a token spent twice and never decided so": (
        "presentations not allowed",
        lambda: replace(clean, refresh_tokens=[token(1, "rotated", "reused")]),
    ),
    "a token spent three times": (
        "presentations not allowed",
        lambda: replace(
            clean,
            refresh_tokens=[token(1, "rotated", "reused", "reused")],
            decisions=[*clean.decisions, *[Decided("c1", "resolved.presentagain", 1)] * 2],
            reuse="family_revoked",
        ),
    ),
    "a token spent three times and decided so once": (
        "presentations not allowed",
        lambda: replace(
            clean,
            refresh_tokens=[token(1, "rotated", "reused", "reused")],
            decisions=[*clean.decisions, Decided("c1", "resolved.presentagain", 1)],
        ),
    ),
    "a code that two jobs sent": (
        "presentations not allowed",
        lambda: replace(clean, traces=[*clean.traces, *send_twice(first=1.0, answered=1.4, second=1.3)]),
    ),
    "a code sent again before the lease of a job that died was over": (
        "presentations not allowed",
        lambda: replace(clean, traces=[*clean.traces, *send_twice(first=1.0, second=2.9)]),
    ),
    "a pair dropped by a living process": ("lost pairs", lambda: replace(clean, traces=[answered])),
    "a pair that was not parked": (
        "lost pairs",
        lambda: replace(clean, traces=[answered, line("refresh.save.parked", kept=False, ticket="refresh-c1-1")]),
    ),
    "a pair parked and forgotten": (
        "lost pairs",
        lambda: replace(clean, traces=[answered, line("refresh.save.parked", kept=True, ticket="refresh-c1-2")]),
    ),
    "a pair still parked": ("lost pairs", lambda: replace(clean, parked=1)),
    "a pair written over": (
        "lost pairs",
        lambda: replace(
            clean,
            traces=[*clean.traces, answered | {"call": "k2"}, line("refresh.save.committed", call="k2")],
        ),
    ),
    "a live grant given up": ("false revocations", lambda: end(clean, "rotation_lost", "not_reached")),
    "a live grant said to be revoked": ("false revocations", lambda: end(clean, "refresh_rejected", "not_reached")),
    "an end without a look": ("false revocations", lambda: replace(end(clean, "rotation_lost"), refresh_tokens=[])),
    "the user blamed for our loss": ("wrong reasons", lambda: end(clean, "refresh_rejected", "burnt", "reused")),
    "our loss said of the user's doing": (
        "wrong reasons",
        lambda: end(clean, "rotation_lost", "revoked", revoked=True),
    ),
    "a code blamed on the user": (
        "wrong reasons",
        lambda: fail("code_rejected", presented("reused"), after=1),
    ),
    "a code that was not exchanged": ("codes that expired unused", lambda: fail("expired")),
    "an outage named for a code that was granted": (
        "wrong reasons",
        lambda: fail(
            "provider_unavailable", presented("not_reached", "before:503"), presented("exchanged", "after:drop")
        ),
    ),
    "an outage named for a code that was used up without an answer": (
        "wrong reasons",
        lambda: fail("provider_unavailable", presented("burnt", "middle:500"), is_kept_back=True),
    ),
    "an outage named for a code that was granted, and revoked by its user": (
        "wrong reasons",
        lambda: fail("provider_unavailable", presented("exchanged"), revoked=True),
    ),
    "an outage named for a code that was refused": (
        "wrong reasons",
        lambda: fail("provider_unavailable", presented("client_rejected")),
    ),
    "an outage named although no fault hit the request": (
        "wrong reasons",
        lambda: fail("provider_unavailable", presented("not_reached")),
    ),
    "an outage named while the code still lived": (
        "wrong reasons",
        lambda: fail("provider_unavailable", presented("not_reached", "before:503"), after=599),
    ),
    "an outage named while the breaker kept back a code that still lived": (
        "wrong reasons",
        lambda: fail("provider_unavailable", is_kept_back=True, after=30),
    ),
    "an outage named for a code that no worker took": ("wrong reasons", lambda: fail("provider_unavailable")),
    "an outage named for a code that no worker took before the provider called it too old": (
        "wrong reasons",
        lambda: fail("provider_unavailable", presented("expired")),
    ),
    "an outage named without an event": (
        "wrong reasons",
        lambda: replace(fail("provider_unavailable", presented("not_reached", "before:503")), events=events),
    ),
    "a generation skipped": (
        "generations skipped or used twice",
        lambda: replace(clean, connections=[Connected("c1", 1, "active", 3, at_rest=True)]),
    ),
    "a generation used twice": (
        "generations skipped or used twice",
        lambda: replace(clean, decisions=[*clean.decisions, Decided("c1", "refresh.saved", 2)]),
    ),
    "an event that never left": ("events missing", lambda: replace(clean, delivered=clean.delivered[:1])),
    "a gap in the outbox": (
        "events missing",
        lambda: replace(
            clean,
            events=[events[0], replace(events[1], sequence=3)],
            delivered=[*clean.delivered, ("events", "c1", 3, "e2")],
        ),
    ),
    "a connection revoked by hand": (
        "events missing",
        lambda: replace(clean, connections=[Connected("c1", 1, "revoked", 2, at_rest=True)]),
    ),
    "an event twice in the outbox": (
        "events duplicated or out of order",
        lambda: replace(clean, events=[*events, replace(events[1], position=3, id="e3", sequence=3)]),
    ),
    "one number for two events": (
        "events duplicated or out of order",
        lambda: replace(clean, delivered=[*clean.delivered, ("events", "c1", 2, "other")]),
    ),
    "events out of order": (
        "events duplicated or out of order",
        lambda: replace(clean, delivered=[clean.delivered[1], clean.delivered[0]]),
    ),
    "a connection that does not refresh": (
        "never at rest",
        lambda: replace(clean, connections=[Connected("c1", 1, "active", 2, at_rest=False)]),
    ),
    "events left behind": ("never at rest", lambda: replace(clean, unpublished=2)),
}


@pytest.mark.parametrize("case", planted)
def test_a_planted_violation_is_found_in_its_column(case: str) -> None:
    column, plant = planted[case]
    found = judge(plant())
    assert found.violations[column], found.violations
    assert not found.is_clean
    shown = draw(found, {"planted": 1}, "a run").splitlines()
    assert f"  {column:<56}{len(found.violations[column]):>8}" in shown
