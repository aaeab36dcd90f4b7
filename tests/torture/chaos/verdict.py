"""Judge a chaos run by what the provider, the database, the streams and the traces show: values in, a table out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.torture.chaos.evidence import Connected, Evidence, Failed, Published

spending = frozenset({"burnt", "rotated", "rotated_again", "reused", "revoked", "expired"})
"""Outcomes of a presentation that reached the grant; after any other one the token was as it had been."""

shown_again = frozenset({"resolved.presentagain", "resolved.presumed"})
"""Decided of a token that may be spent and is presented again."""

after_unknown = frozenset({*shown_again, "resolved.lost"})
"""Decided of a token whose answer was lost, and which no old access token proves unspent."""

clock_slack = 1.0
"""Seconds by which an event may be dated before what led to it."""

lease_seconds = 2.0
"""How long the fleet's leases are: in that time no other job sends the same token or code."""

by_the_user = frozenset({"access_revoked", "refresh_rejected"})


status_after = {
    "connection.authorized": "active",
    "connection.refreshed": "active",
    "connection.reauthorization_required": "revoked",
    "connection.disconnected": "disconnected",
}


@dataclass
class Verdict:
    """The violations by column, each with its evidence, and notes that are no violations.

    `runs` counts the jobs that reached a named point; a job with nothing to do reaches its end.
    """

    violations: dict[str, list[str]]
    runs: dict[str, int] = field(default_factory=dict)
    presentations: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, what: str) -> None:
        """Count something worth knowing that is no violation."""
        self.notes[what] = self.notes.get(what, 0) + 1

    @property
    def is_clean(self) -> bool:
        return not any(self.violations.values())


columns = (
    "presentations not allowed",
    "lost pairs",
    "false revocations",
    "wrong reasons",
    "generations skipped or used twice",
    "codes that expired unused",
    "events missing",
    "events duplicated or out of order",
    "never at rest",
)


def judge(evidence: Evidence) -> Verdict:
    verdict = Verdict({column: [] for column in columns})
    calls = list(read_calls(evidence.traces))
    verdict.runs = {f"{flow} jobs": n for flow, n in sorted(Counter(call.flow for call in calls).items())}
    verdict.runs["of them about to send a code or token"] = sum(call.sent_at is not None for call in calls)
    _judge_presentations(evidence, verdict)
    _judge_leases(calls, verdict)
    _judge_pairs(evidence, verdict)
    _judge_reasons(evidence, verdict)
    _judge_generations(evidence, verdict)
    _judge_events(evidence, verdict)
    for each in evidence.connections:
        if not each.at_rest:
            verdict.violations["never at rest"].append(each.id)
    if evidence.unpublished:
        verdict.violations["never at rest"].append(f"{evidence.unpublished} events in the outbox")
    return verdict


def _judge_presentations(evidence: Evidence, verdict: Verdict) -> None:
    """A token may come again if it was surely unspent or was answered 503, and one time more after an answer that was
    not kept; if reuse is harmless, as many times more as no certain answer was kept, which the decisions say.
    """
    again: Counter[int] = Counter()
    tokens = [token for token in evidence.refresh_tokens if token["presentations"]]
    most, surely_unspent, once_more = 0, 0, 0
    for token in tokens:
        outcomes = [one["outcome"] for one in token["presentations"]]
        spent = sum(reached_the_grant(one) for one in token["presentations"])
        most = max(most, spent)
        surely_unspent += len(outcomes) > 1 and len(outcomes) > spent
        if spent > 1:
            once_more += 1
            again[token["user_id"]] += spent - 1
        if spent > 2 and evidence.reuse != "harmless":
            seen = [f"{one['outcome']} ({one['fault']})" for one in token["presentations"]]
            verdict.violations["presentations not allowed"].append(f"token {token['id']}: {', '.join(seen)}")
    allowed = Counter(d.subject for d in evidence.decisions if d.verb in shown_again)
    for account, connections in _by_account(evidence).items():
        if again[account] > sum(allowed[each.id] for each in connections):
            verdict.violations["presentations not allowed"].append(
                f"account {account}: {again[account]} more than decided"
            )
    verdict.presentations = {
        "tokens presented": len(tokens),
        "most presentations that reached the grant": most,
        "presented again, surely unspent before": surely_unspent,
        "presented again after a lost answer": once_more,
    }


def reached_the_grant(presentation: Mapping[str, Any]) -> bool:
    """Return whether a presentation counts: it reached the grant, and was not answered 503."""
    return presentation["outcome"] in spending and not was_answered_503(presentation)


def was_answered_503(presentation: Mapping[str, Any]) -> bool:
    return str(presentation["fault"]).endswith(":503")


def _by_account(evidence: Evidence) -> dict[int, list[Connected]]:
    found: dict[int, list[Connected]] = defaultdict(list)
    for each in evidence.connections:
        found[each.account].append(each)
    return found


@dataclass
class Call:
    """One call of a flow, as its trace shows it."""

    pid: int
    flow: str
    subject: str
    began: float
    sent_at: float | None = None
    answered_at: float | None = None
    granted: bool = False
    committed: bool = False
    parked: str = ""


def read_calls(traces: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    calls: dict[str, Call] = {}
    for line in traces:
        flow, *rest = line["point"].split(".")
        call = calls.setdefault(line["call"], Call(line["pid"], flow, line["subject"], line["at"]))
        match rest:
            case ["request"]:
                call.sent_at, call.answered_at = line["at"], None
            case [("save" | "keep"), "answered"]:
                call.granted, call.answered_at = line["outcome"] == "TokensGranted", line["at"]
            case [("save" | "keep"), "committed"]:
                call.committed = True
            case [("save" | "keep"), "parked"] if line["kept"]:
                call.parked = line["ticket"]
            case _:
                pass
    yield from calls.values()


def _judge_leases(calls: Sequence[Call], verdict: Verdict) -> None:
    """Of two jobs that send the same token or code, the second waits for the first one's answer or lease."""
    sending = [call for call in calls if call.sent_at is not None]
    sending.sort(key=lambda call: (call.flow, call.subject, call.sent_at))
    for first, second in pairwise(sending):
        if (first.flow, first.subject) != (second.flow, second.subject) or second.sent_at is None:
            continue
        was_answered = first.answered_at is not None and first.answered_at <= second.sent_at
        if second.sent_at < first.began + lease_seconds and not was_answered:
            verdict.violations["presentations not allowed"].append(
                f"{first.flow} of {first.subject}: processes {first.pid} and {second.pid} within one lease"
            )


def _judge_pairs(evidence: Evidence, verdict: Verdict) -> None:
    """Every granted pair was written or parked unless its process was killed, and what was written is stored."""
    lost = verdict.violations["lost pairs"]
    stored: dict[str, set[int]] = defaultdict(set)
    settled: Counter[str] = Counter()
    for decision in evidence.decisions:
        if decision.verb in ("refresh.saved", "authorized") and decision.generation is not None:
            stored[decision.subject].add(decision.generation)
        settled[decision.subject] += decision.verb in ("refresh.saved", "refresh.superseded")
    gone = {each.id for each in evidence.connections if each.status == "disconnected"}
    committed: Counter[str] = Counter()
    killed = 0
    for call in read_calls(evidence.traces):
        if not call.granted:
            continue
        if call.committed:
            committed[call.subject] += call.flow == "refresh"
        elif call.parked:
            _, connection_id, generation = call.parked.split("-")
            known = call.flow == "exchange" or int(generation) + 1 in stored[connection_id] or connection_id in gone
            if not known:
                lost.append(f"parked and never recovered: {call.parked}")
        elif call.pid in evidence.killed:
            killed += 1
        else:
            lost.append(f"dropped by a living process {call.pid}: {call.flow} of {call.subject}")
    lost += [f"written and not stored: {subject}" for subject, n in committed.items() if n > settled[subject]]
    if evidence.parked:
        lost.append(f"{evidence.parked} pairs are still parked")
    verdict.notes["pairs that died with a killed process"] = killed
    parks = Counter(bool(call.parked) for call in read_calls(evidence.traces) if call.granted)
    verdict.notes["pairs parked and recovered"] = parks[True]


def _judge_reasons(evidence: Evidence, verdict: Verdict) -> None:
    """`rotation_lost` if the pair was truly lost, revoked by the user if the user revoked, no end otherwise."""
    accounts = {each.id: each.account for each in evidence.connections}
    unknown = {(d.subject, d.generation) for d in evidence.decisions if d.verb in after_unknown}
    ends: dict[str, list[int | None]] = defaultdict(list)
    for decision in evidence.decisions:
        if decision.verb.startswith("revoked."):
            ends[decision.subject].append(decision.generation)
    for event in evidence.events:
        if event.type != "connection.reauthorization_required":
            continue
        generation = ends[event.connection_id].pop(0) if ends[event.connection_id] else None
        is_unknown = (event.connection_id, generation) in unknown
        _judge_reason(evidence, event, accounts[event.connection_id], is_unknown, verdict)
    _judge_failures(evidence, verdict)


def _judge_reason(evidence: Evidence, event: Published, account: int, is_unknown: bool, verdict: Verdict) -> None:
    """Compare the reason that one event gives with what the provider saw before it."""
    reason = event.data["reason"]
    verdict.note(f"ended as {reason}")
    outcomes = _last_outcomes(evidence, account, event.at)
    spent_by_us = any(outcome in ("burnt", "rotated", "rotated_again") for outcome in outcomes)
    begun = max((e.at for e in _authorizations_of(evidence, event)), default=0.0)
    revoked = any(who == account and begun - 5 <= at <= event.at for who, at in evidence.revocations)
    seen_by = f"{event.connection_id} at {event.at:.3f}: {reason}, {outcomes}, revoked by the user: {revoked}"
    match reason in by_the_user, spent_by_us, revoked:
        case (False, True, _) | (True, False, True):
            pass
        case (False, False, True) if is_unknown:
            verdict.note("taken for a lost rotation, revoked meanwhile: no one can know")
        case (_, False, False):
            verdict.violations["false revocations"].append(seen_by)
        case _:
            verdict.violations["wrong reasons"].append(seen_by)


def _last_outcomes(evidence: Evidence, account: int, until: float) -> list[str]:
    """What came of each presentation of the account's token that was presented last, as far as `until`.

    That is a time of the fleet's clock, which a busy process knows less well than the provider knows its own.
    """
    presented = [
        [one for one in token["presentations"] if one["at"] <= until + clock_slack]
        for token in evidence.refresh_tokens
        if token["user_id"] == account
    ]
    last = max(filter(None, presented), key=lambda shown: max(one["at"] for one in shown), default=[])
    return [one["outcome"] for one in last]


def _judge_failures(evidence: Evidence, verdict: Verdict) -> None:
    """An authorization may fail because its answer was lost, its user revoked, or its code outlived nothing but
    outages, and for no other reason.
    """
    for failure in evidence.failures:
        verdict.note(f"authorization: {failure.reason}")
        revoked = any(who == failure.account and at >= failure.at - 5 for who, at in evidence.revocations)
        if failure.reason == "expired":
            found = f"authorization {failure.id} of account {failure.account}"
            verdict.violations["codes that expired unused"].append(found)
        elif not _is_true(evidence, failure, revoked):
            seen = [f"{one['outcome']} ({one['fault']})" for one in failure.presentations]
            found = f"authorization {failure.id}: {failure.reason}, presented: {', '.join(seen) or 'never'}"
            verdict.violations["wrong reasons"].append(found)


def _is_true(evidence: Evidence, failure: Failed, revoked: bool) -> bool:
    if failure.reason == "provider_unavailable":
        return _met_only_outages(evidence, failure)
    return failure.reason == "answer_lost" or revoked


def _met_only_outages(evidence: Evidence, failure: Failed) -> bool:
    """Return whether `provider_unavailable` is true: the code's life was over, and nothing but outages had met it.

    A code that was never presented counts only if the breaker kept it back; without that, no worker took it.
    """
    ended = [
        event.at
        for event in evidence.events
        if event.type == "connection.authorization_failed" and event.data["authorization_id"] == failure.id
    ]
    tried = [one for one in failure.presentations if one["outcome"] != "expired"]
    was_over = len(tried) < len(failure.presentations) or any(at >= failure.over_at for at in ended)
    was_kept_back = any((each.subject, each.verb) == (failure.id, "exchange.kept_back") for each in evidence.decisions)
    return was_over and (all(map(_met_an_outage, tried)) if tried else was_kept_back)


def _met_an_outage(presentation: Mapping[str, Any]) -> bool:
    """Return whether a fault hit it before the grant; after a 503 a code counts as not used up."""
    failed_before = presentation["outcome"] == "not_reached" and presentation["fault"] is not None
    return failed_before or was_answered_503(presentation)


def _authorizations_of(evidence: Evidence, event: Published) -> list[Published]:
    return [
        each
        for each in evidence.events
        if each.connection_id == event.connection_id
        and each.type == "connection.authorized"
        and each.position < event.position
    ]


def _judge_generations(evidence: Evidence, verdict: Verdict) -> None:
    """Generations are written as 1, 2, 3 … up to the current one."""
    written: dict[str, list[int]] = defaultdict(list)
    for decision in evidence.decisions:
        if decision.verb in ("refresh.saved", "authorized") and decision.generation is not None:
            written[decision.subject].append(decision.generation)
    for each in evidence.connections:
        if written[each.id] != list(range(1, each.generation + 1)):
            verdict.violations["generations skipped or used twice"].append(
                f"{each.id}: {written[each.id]}, {each.generation}"
            )


def _judge_events(evidence: Evidence, verdict: Verdict) -> None:
    """The outbox, the streams and the rows agree: every change published once, in order."""
    _judge_outbox(evidence, verdict)
    _judge_streams(evidence, verdict)
    _judge_statuses(evidence, verdict)


def _judge_outbox(evidence: Evidence, verdict: Verdict) -> None:
    """Sequences count 1, 2, 3 … for each subject, and no generation is published twice."""
    kept: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in evidence.events:
        kept[event.stream, event.subject].append(event.sequence)
    for key, sequences in kept.items():
        if sorted(set(sequences)) != list(range(1, len(set(sequences)) + 1)):
            verdict.violations["events missing"].append(f"{key}: a gap in the outbox")
        if len(set(sequences)) != len(sequences) or sequences != sorted(sequences):
            verdict.violations["events duplicated or out of order"].append(f"{key}: {sequences}")
    refreshed: Counter[tuple[str, str, int]] = Counter(
        (event.connection_id, event.type, event.data["generation"])
        for event in evidence.events
        if event.type == "connection.refreshed"
    )
    twice = [f"published twice: {what}" for what, n in refreshed.items() if n > 1]
    verdict.violations["events duplicated or out of order"] += twice


def _judge_streams(evidence: Evidence, verdict: Verdict) -> None:
    """Every event of the outbox was delivered, each number for one event and in order of first delivery."""
    delivered_ids = {id_ for _, _, _, id_ in evidence.delivered}
    verdict.violations["events missing"] += [
        f"never on the stream: {event.type} of {event.subject}"
        for event in evidence.events
        if event.id not in delivered_ids
    ]
    ids: dict[tuple[str, str, int], str] = {}
    newest: dict[tuple[str, str], int] = defaultdict(int)
    doubled = verdict.violations["events duplicated or out of order"]
    for stream, subject, sequence, id_ in evidence.delivered:
        if ids.setdefault((stream, subject, sequence), id_) != id_:
            doubled.append(f"one number for two events: {subject} {sequence}")
        if sequence > newest[stream, subject] + 1:
            doubled.append(f"out of order: {subject} {newest[stream, subject]} then {sequence}")
        newest[stream, subject] = max(newest[stream, subject], sequence)


def _judge_statuses(evidence: Evidence, verdict: Verdict) -> None:
    """The last event of a connection names its status, and no end is published twice in a row."""
    last: dict[str, str] = {}
    for event in evidence.events:
        if event.type not in status_after:
            continue
        if event.type == last.get(event.connection_id) and status_after[event.type] != "active":
            found = f"published twice in a row: {event.type} of {event.connection_id}"
            verdict.violations["events duplicated or out of order"].append(found)
        last[event.connection_id] = event.type
    for each in evidence.connections:
        if status_after.get(last.get(each.id, "")) != each.status:
            found = f"{each.id} is {each.status}, and the last published event is {last.get(each.id)}"
            verdict.violations["events missing"].append(found)


def draw(verdict: Verdict, faults: Mapping[str, int], title: str) -> str:
    """The table that a run prints."""
    lines = [title, "", f"{'faults injected':<58}{sum(faults.values()):>8}"]
    lines += [f"  {name:<56}{count:>8}" for name, count in sorted(faults.items())]
    lines += ["", "runs"]
    lines += [f"  {name:<56}{count:>8}" for name, count in verdict.runs.items()]
    lines += ["", "presentations of refresh tokens"]
    lines += [f"  {name:<56}{count:>8}" for name, count in verdict.presentations.items()]
    lines += ["", "outcome"]
    lines += [f"  {name:<56}{count:>8}" for name, count in sorted(verdict.notes.items())]
    lines += ["", "violations"]
    lines += [f"  {column:<56}{len(seen):>8}" for column, seen in verdict.violations.items()]
    lines += [f"    {column}: {one}" for column, seen in verdict.violations.items() for one in seen[:10]]
    return "\n".join(lines)
