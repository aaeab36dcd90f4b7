"""Judges a chaos run by what the provider, the database, the streams and the traces say: values in, a table out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

spending = frozenset({"burnt", "rotated", "rotated_again", "reused", "revoked", "expired"})
"""Outcomes of a presentation that reached the grant; after any other one the token was as it had been."""

shown_again = frozenset({"resolved.presentagain", "resolved.presumed"})
"""What is decided of a token that may be spent and is presented all the same."""

after_unknown = frozenset({*shown_again, "resolved.lost"})
"""What is decided of a token whose answer nobody kept, and which no old access token proves unspent."""

by_the_user = frozenset({"access_revoked", "refresh_rejected"})


status_after = {
    "connection.authorized": "active",
    "connection.refreshed": "active",
    "connection.reauthorization_required": "revoked",
    "connection.disconnected": "disconnected",
}


@dataclass(frozen=True, slots=True)
class Told:
    """An event as the outbox has it; `at` in seconds since 1970."""

    position: int
    id: str
    type: str
    connection_id: str
    subject: str
    stream: str
    sequence: int
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Decided:
    subject: str
    verb: str
    generation: int | None


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection at the end; `account` is its user's number at the provider."""

    id: str
    account: int
    status: str
    generation: int
    at_rest: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """An authorization that came to nothing, by its account; `at` is when its code came."""

    id: str
    account: int
    reason: str
    at: float


@dataclass
class Evidence:
    """All that is known when everything has come to rest."""

    connections: Sequence[Connected]
    decisions: Sequence[Decided]
    events: Sequence[Told]
    heard: Sequence[tuple[str, str, int, str]]
    """Entries of the streams as they came: stream, subject, sequence, id."""
    refresh_tokens: Sequence[Mapping[str, Any]]
    """As `sandbox.counters` tells them."""
    traces: Sequence[Mapping[str, Any]]
    killed: frozenset[int] = frozenset()
    """Processes that were killed; whatever they had not saved is theirs to lose."""
    revocations: Sequence[tuple[int, float]] = ()
    """When the user of an account revoked."""
    failures: Sequence[Failed] = ()
    parked: int = 0
    unpublished: int = 0


@dataclass
class Verdict:
    """What came out: harm by column, each with what it was seen by; and what is told without being harm.

    `runs` are jobs that came by a named point at all: one that found nothing to do comes by its end.
    """

    harm: dict[str, list[str]]
    runs: dict[str, int] = field(default_factory=dict)
    presentations: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not any(self.harm.values())


columns = (
    "presentations not allowed",
    "lost pairs",
    "false revocations",
    "wrong reasons",
    "generations skipped or used twice",
    "codes left to run out",
    "events missing",
    "events doubled or out of order",
    "never came to rest",
)


def judge(evidence: Evidence) -> Verdict:
    verdict = Verdict({column: [] for column in columns})
    calls = list(read_calls(evidence.traces))
    verdict.runs = {f"{flow} jobs": n for flow, n in sorted(Counter(call.flow for call in calls).items())}
    verdict.runs["of them about to send a code or token"] = sum(call.sent for call in calls)
    _judge_presentations(evidence, verdict)
    _judge_pairs(evidence, verdict)
    _judge_reasons(evidence, verdict)
    _judge_generations(evidence, verdict)
    _judge_events(evidence, verdict)
    for each in evidence.connections:
        if not each.at_rest:
            verdict.harm["never came to rest"].append(each.id)
    if evidence.unpublished:
        verdict.harm["never came to rest"].append(f"{evidence.unpublished} events in the outbox")
    return verdict


def _judge_presentations(evidence: Evidence, verdict: Verdict) -> None:
    """A token may come a second time where it was surely unspent, or once after an answer that nobody kept."""
    again: Counter[int] = Counter()
    tokens = [token for token in evidence.refresh_tokens if token["presentations"]]
    most, surely_unspent, once_more = 0, 0, 0
    for token in tokens:
        outcomes = [one["outcome"] for one in token["presentations"]]
        spent = sum(outcome in spending for outcome in outcomes)
        most = max(most, spent)
        surely_unspent += len(outcomes) > 1 and len(outcomes) > spent
        if spent > 1:
            once_more += 1
            again[token["user_id"]] += spent - 1
        if spent > 2:
            seen = [f"{one['outcome']} ({one['fault']})" for one in token["presentations"]]
            verdict.harm["presentations not allowed"].append(f"token {token['id']}: {', '.join(seen)}")
    allowed = Counter(d.subject for d in evidence.decisions if d.verb in shown_again)
    for account, connections in _by_account(evidence).items():
        if again[account] > sum(allowed[each.id] for each in connections):
            verdict.harm["presentations not allowed"].append(f"account {account}: {again[account]} more than decided")
    verdict.presentations = {
        "tokens presented": len(tokens),
        "most presentations that reached the grant": most,
        "presented again, surely unspent before": surely_unspent,
        "presented once more after a lost answer": once_more,
    }


def _by_account(evidence: Evidence) -> dict[int, list[Connected]]:
    found: dict[int, list[Connected]] = defaultdict(list)
    for each in evidence.connections:
        found[each.account].append(each)
    return found


@dataclass
class Call:
    """One call of a flow, as its trace tells it."""

    pid: int
    flow: str
    subject: str
    sent: bool = False
    granted: bool = False
    committed: bool = False
    parked: str = ""


def read_calls(traces: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    calls: dict[str, Call] = {}
    for line in traces:
        flow, *rest = line["point"].split(".")
        call = calls.setdefault(line["call"], Call(line["pid"], flow, line["subject"]))
        match rest:
            case ["request"]:
                call.sent = True
            case [("save" | "keep"), "answered"]:
                call.granted = line["outcome"] == "TokensGranted"
            case [("save" | "keep"), "committed"]:
                call.committed = True
            case [("save" | "keep"), "parked"] if line["kept"]:
                call.parked = line["ticket"]
            case _:
                pass
    yield from calls.values()


def _judge_pairs(evidence: Evidence, verdict: Verdict) -> None:
    """Every granted pair was written or parked, unless its process was killed; and what was written is held."""
    lost = verdict.harm["lost pairs"]
    held: dict[str, set[int]] = defaultdict(set)
    settled: Counter[str] = Counter()
    for decision in evidence.decisions:
        if decision.verb in ("refresh.saved", "authorized") and decision.generation is not None:
            held[decision.subject].add(decision.generation)
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
            known = call.flow == "exchange" or int(generation) + 1 in held[connection_id] or connection_id in gone
            if not known:
                lost.append(f"parked and never taken in: {call.parked}")
        elif call.pid in evidence.killed:
            killed += 1
        else:
            lost.append(f"dropped by a living process {call.pid}: {call.flow} of {call.subject}")
    lost += [f"written and not held: {subject}" for subject, n in committed.items() if n > settled[subject]]
    if evidence.parked:
        lost.append(f"{evidence.parked} pairs are still parked")
    verdict.told["pairs that died with a killed process"] = killed
    parks = Counter(bool(call.parked) for call in read_calls(evidence.traces) if call.granted)
    verdict.told["pairs parked and taken in"] = parks[True]


def _judge_reasons(evidence: Evidence, verdict: Verdict) -> None:
    """`rotation_lost` where the pair was truly lost, the user's doing where the user revoked, nothing elsewhere."""
    accounts = {each.id: each.account for each in evidence.connections}
    unknown = {(d.subject, d.generation) for d in evidence.decisions if d.verb in after_unknown}
    ends: dict[str, list[int | None]] = defaultdict(list)
    for decision in evidence.decisions:
        if decision.verb.startswith("revoked."):
            ends[decision.subject].append(decision.generation)
    tokens: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for token in evidence.refresh_tokens:
        tokens[token["user_id"]].append(token)
    for event in evidence.events:
        if event.type != "connection.reauthorization_required":
            continue
        reason, account = event.data["reason"], accounts[event.connection_id]
        generation = ends[event.connection_id].pop(0) if ends[event.connection_id] else None
        verdict.told[f"ended as {reason}"] = verdict.told.get(f"ended as {reason}", 0) + 1
        shown = [t for t in tokens[account] if any(p["at"] <= event.at for p in t["presentations"])]
        last = max(shown, key=lambda t: max(p["at"] for p in t["presentations"] if p["at"] <= event.at), default=None)
        outcomes = [p["outcome"] for p in last["presentations"] if p["at"] <= event.at] if last else []
        spent_by_us = any(outcome in ("burnt", "rotated", "rotated_again") for outcome in outcomes)
        begun = max((e.at for e in _authorizations_of(evidence, event)), default=0.0)
        revoked = any(who == account and begun - 5 <= at <= event.at for who, at in evidence.revocations)
        seen_by = f"{event.connection_id}: {reason}, {outcomes}, revoked by the user: {revoked}"
        match reason in by_the_user, spent_by_us, revoked:
            case (False, True, _) | (True, False, True):
                pass
            case (False, False, True) if (event.connection_id, generation) in unknown:
                told = "taken for a lost rotation, revoked meanwhile: nobody can tell"
                verdict.told[told] = verdict.told.get(told, 0) + 1
            case (_, False, False):
                verdict.harm["false revocations"].append(seen_by)
            case _:
                verdict.harm["wrong reasons"].append(seen_by)
    for failure in evidence.failures:
        verdict.told[f"authorization: {failure.reason}"] = verdict.told.get(f"authorization: {failure.reason}", 0) + 1
        revoked = any(who == failure.account and at >= failure.at - 5 for who, at in evidence.revocations)
        if failure.reason == "expired":
            verdict.harm["codes left to run out"].append(f"authorization {failure.id} of account {failure.account}")
        elif failure.reason != "answer_lost" and not revoked:
            verdict.harm["wrong reasons"].append(f"authorization {failure.id}: {failure.reason}")


def _authorizations_of(evidence: Evidence, event: Told) -> list[Told]:
    return [
        each
        for each in evidence.events
        if each.connection_id == event.connection_id
        and each.type == "connection.authorized"
        and each.position < event.position
    ]


def _judge_generations(evidence: Evidence, verdict: Verdict) -> None:
    """1, 2, 3 … in the order in which they were written, up to the one that stands."""
    written: dict[str, list[int]] = defaultdict(list)
    for decision in evidence.decisions:
        if decision.verb in ("refresh.saved", "authorized") and decision.generation is not None:
            written[decision.subject].append(decision.generation)
    for each in evidence.connections:
        if written[each.id] != list(range(1, each.generation + 1)):
            verdict.harm["generations skipped or used twice"].append(
                f"{each.id}: {written[each.id]}, {each.generation}"
            )


def _judge_events(evidence: Evidence, verdict: Verdict) -> None:
    missing, doubled = verdict.harm["events missing"], verdict.harm["events doubled or out of order"]
    kept: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in evidence.events:
        kept[event.stream, event.subject].append(event.sequence)
    for key, sequences in kept.items():
        if sorted(set(sequences)) != list(range(1, len(set(sequences)) + 1)):
            missing.append(f"{key}: a gap in the outbox")
        if len(set(sequences)) != len(sequences) or sequences != sorted(sequences):
            doubled.append(f"{key}: {sequences}")
    told: Counter[tuple[str, str, int]] = Counter(
        (event.connection_id, event.type, event.data["generation"])
        for event in evidence.events
        if event.type == "connection.refreshed"
    )
    doubled += [f"told twice: {what}" for what, n in told.items() if n > 1]
    heard_ids = {id_ for _, _, _, id_ in evidence.heard}
    missing += [f"never on the stream: {e.type} of {e.subject}" for e in evidence.events if e.id not in heard_ids]
    ids: dict[tuple[str, str, int], str] = {}
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for stream, subject, sequence, id_ in evidence.heard:
        if ids.setdefault((stream, subject, sequence), id_) != id_:
            doubled.append(f"one number for two events: {subject} {sequence}")
        if sequence > newest[stream, subject] + 1:
            doubled.append(f"out of order: {subject} {newest[stream, subject]} then {sequence}")
        newest[stream, subject] = max(newest[stream, subject], sequence)
    last: dict[str, str] = {}
    for event in evidence.events:
        if event.type not in status_after:
            continue
        if event.type == last.get(event.connection_id) and status_after[event.type] != "active":
            doubled.append(f"told twice in a row: {event.type} of {event.connection_id}")
        last[event.connection_id] = event.type
    for each in evidence.connections:
        if status_after.get(last.get(each.id, "")) != each.status:
            missing.append(f"{each.id} is {each.status}, and the last that was told is {last.get(each.id)}")


def draw(verdict: Verdict, faults: Mapping[str, int], title: str) -> str:
    """The table that a run prints."""
    lines = [title, "", f"{'faults injected':<58}{sum(faults.values()):>8}"]
    lines += [f"  {name:<56}{count:>8}" for name, count in sorted(faults.items())]
    lines += ["", "runs"]
    lines += [f"  {name:<56}{count:>8}" for name, count in verdict.runs.items()]
    lines += ["", "presentations of refresh tokens"]
    lines += [f"  {name:<56}{count:>8}" for name, count in verdict.presentations.items()]
    lines += ["", "what came of it"]
    lines += [f"  {name:<56}{count:>8}" for name, count in sorted(verdict.told.items())]
    lines += ["", "harm"]
    lines += [f"  {column:<56}{len(seen):>8}" for column, seen in verdict.harm.items()]
    lines += [f"    {column}: {one}" for column, seen in verdict.harm.items() for one in seen[:10]]
    return "\n".join(lines)
