"""Judge a trial of the gateway by what its clients, the provider and the database saw: values in, a table out."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

minute = 60.0
forgotten = 62.0
"""For so many seconds after Redis was emptied it does not know what had been sent before."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request of a client and its answer; all times are seconds since 1970 by one clock.

    marker: its own, which goes to the provider as `Idempotency-Key`.
    kind: `token`, `get` or `post`.
    opened_at: when its connection to the gateway at `port` was opened.
    status: of the answer; 0 if the connection broke.
    word: the problem's type, or `answered`; or what broke the connection.
    carried_out: what a problem says of the call; empty if it says nothing.
    token, generation: what was handed out; the former as SHA-256.
    """

    marker: str
    kind: str
    connection_id: str
    account: str
    port: int
    opened_at: float
    sent_at: float
    ended_at: float
    status: int
    word: str
    carried_out: str = ""
    is_from_provider: bool = False
    token: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the provider's API saw it; `marker` is empty if it is a sync's."""

    at: float
    account: str
    method: str
    marker: str
    status: int


@dataclass(frozen=True, slots=True)
class TokenLife:
    """An access token's life at the provider; `ended_at` is when its pair was rotated."""

    account: str
    issued_at: float
    expires_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection that ended, though no user revoked anything."""

    account: str
    reason: str


@dataclass(frozen=True, slots=True)
class Break:
    """What was killed or emptied: `gateway`, `worker`, `scheduler` or `redis`; a gateway by its port.

    until: when it was ready again.
    """

    what: str
    at: float
    until: float
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known once the fleet is at rest.

    presentations: how often each refresh token was presented.
    families: how many tokens of each family are alive.
    granted, saved: pairs by account, as the provider gave them and as the database has them.
    known: when a generation of a connection was seen in the database.
    audited: lines of the audit by action.
    limit: of an account's requests in any minute.
    """

    sent: Sequence[Sent]
    arrivals: Sequence[Arrival]
    tokens: Mapping[str, TokenLife]
    notes: Sequence[str]
    presentations: Sequence[int]
    families: Sequence[int]
    granted: Mapping[str, int]
    saved: Mapping[str, int]
    ended: Sequence[Ended]
    known: Sequence[tuple[str, float, int]]
    breaks: Sequence[Break]
    audited: Mapping[str, int]
    limit: int


@dataclass
class Verdict:
    """Violations with the evidence for each, and figures."""

    violations: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not any(self.violations.values())


def judge(evidence: Evidence) -> Verdict:
    over, forgiven = find_over_limit(evidence)
    return Verdict(
        {
            "presentations of a refresh token after its first": [
                f"{count} of one" for count in evidence.presentations if count > 1
            ],
            "families ended": [f"family {number}" for number, alive in enumerate(evidence.families) if alive == 0],
            "connections ended though no pair was lost": list(find_needless_ends(evidence)),
            "wrong reasons": [f"{each.reason} of {each.account}" for each in evidence.ended if is_wrong(each)],
            "tokens that were already replaced": list(find_outdated(evidence)),
            "tokens expired, unknown, or another account's": list(find_unusable(evidence)),
            "calls refused for their tokens twice": list(find_refused_twice(evidence.arrivals)),
            "the provider's 401 passed on": [describe(each) for each in evidence.sent if is_passed_on_401(each)],
            "requests over an account's limit": over,
            "requests without an answer though the gateway lived": list(find_unanswered(evidence)),
            "writes carried out twice": list(find_repeated(evidence.notes)),
            "writes of which something false was said": list(find_false_statements(evidence)),
            "tokens and calls that the audit does not have": list(find_unaudited(evidence)),
        },
        figures_of(evidence, forgiven),
    )


def is_wrong(ended: Ended) -> bool:
    return ended.reason != "rotation_lost"


def is_passed_on_401(sent: Sent) -> bool:
    return sent.status == 401 and sent.is_from_provider


def describe(sent: Sent) -> str:
    times = f"{sent.sent_at:.3f} to {sent.ended_at:.3f}, port {sent.port} open since {sent.opened_at:.3f}"
    return f"{sent.kind} {sent.marker} of {sent.account}, {times}: {sent.status} {sent.word}"


def find_needless_ends(evidence: Evidence) -> Iterator[str]:
    """Yield accounts that ended more often than pairs were granted and not saved: those died with a killed worker."""
    for account, ends in Counter(each.account for each in evidence.ended).items():
        unsaved = evidence.granted.get(account, 0) - evidence.saved.get(account, 0)
        if ends > unsaved:
            yield f"{account}: {ends} ends, {unsaved} pairs lost"


def find_outdated(evidence: Evidence) -> Iterator[str]:
    """Yield answers with a token whose replacement was already known when the request for it was sent.

    Known is what another client had been answered, or the database had shown. The gateway reads the token after the
    request has come, so it can't miss that. What is replaced between its reading and its answer is no violation: the
    client could not tell it from a token that is replaced just after the answer.
    """
    seen = [*evidence.known, *((s.connection_id, s.ended_at, s.generation) for s in evidence.sent if s.token)]
    by_connection: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for connection_id, at, generation in seen:
        by_connection[connection_id].append((at, generation))
    newest: dict[str, tuple[list[float], list[int]]] = {}
    for connection_id, points in by_connection.items():
        points.sort()
        newest[connection_id] = [at for at, _ in points], list(accumulate((g for _, g in points), max))
    for sent in evidence.sent:
        times, generations = newest.get(sent.connection_id, ([], []))
        before = bisect_left(times, sent.sent_at)
        if sent.token and before and generations[before - 1] > sent.generation:
            yield f"{describe(sent)}: {sent.generation}, {generations[before - 1]} was known"


def find_unusable(evidence: Evidence) -> Iterator[str]:
    for sent in evidence.sent:
        if not sent.token:
            continue
        life = evidence.tokens.get(sent.token)
        if life is None or life.account != sent.account or life.expires_at < sent.sent_at:
            yield describe(sent)


def find_refused_twice(arrivals: Iterable[Arrival]) -> Iterator[str]:
    refused = Counter(each.marker for each in arrivals if each.marker and each.status == 401)
    return (f"{marker}: {count}" for marker, count in refused.items() if count > 1)


def find_over_limit(evidence: Evidence) -> tuple[list[str], int]:
    """Return the requests that were one too many in their minute, and how many more there were after a FLUSHALL.

    Redis has forgotten then what was sent; the provider's headers make up for it with the first answer.
    """
    emptied = [each.at for each in evidence.breaks if each.what == "redis"]
    by_account: dict[str, list[float]] = defaultdict(list)
    for arrival in evidence.arrivals:
        by_account[arrival.account].append(arrival.at)
    over, forgiven = [], 0
    for account, times in by_account.items():
        times.sort()
        for number, at in enumerate(times, start=1):
            if number - bisect_right(times, at - minute) <= evidence.limit:
                continue
            if any(0 <= at - flushed <= forgotten for flushed in emptied):
                forgiven += 1
            else:
                over.append(f"{account} at {at:.3f}")
    return over, forgiven


def find_unanswered(evidence: Evidence) -> Iterator[str]:
    """Yield requests whose connection broke although no kill of their gateway explains it."""
    for sent in evidence.sent:
        kills = (each for each in evidence.breaks if each.what == "gateway" and each.port == sent.port)
        if sent.status == 0 and not any(each.until >= sent.opened_at and each.at <= sent.ended_at for each in kills):
            yield describe(sent)


def find_repeated(notes: Iterable[str]) -> Iterator[str]:
    return (f"{marker}: {count}" for marker, count in Counter(notes).items() if count > 1)


def find_false_statements(evidence: Evidence) -> Iterator[str]:
    done = set(evidence.notes)
    for sent in evidence.sent:
        if sent.kind != "post" or sent.status == 0 or sent.carried_out == "unknown":
            continue
        is_said_done = sent.is_from_provider and sent.status == 201
        if is_said_done != (sent.marker in done):
            yield describe(sent)


def find_unaudited(evidence: Evidence) -> Iterator[str]:
    """Yield how many lines are missing: each was to be committed before its token was handed out, or its call left."""
    done = {
        "token.given": sum(bool(each.token) for each in evidence.sent),
        "call.made": len({each.marker for each in evidence.arrivals if each.marker}),
    }
    for action, count in done.items():
        lines = evidence.audited.get(action, 0)
        if lines < count:
            yield f"{count} {action}, {lines} lines"


def figures_of(evidence: Evidence, forgiven: int) -> dict[str, str]:
    sent, calls = evidence.sent, [each for each in evidence.sent if each.kind != "token"]
    given = [each for each in sent if each.token]
    ended_at = {token: life.ended_at for token, life in evidence.tokens.items()}
    lives = [(each, ended_at.get(each.token)) for each in given]
    broken = Counter(each.what for each in evidence.breaks)
    met_401 = sum(each.status == 401 and bool(each.marker) for each in evidence.arrivals)
    words = Counter(each.word for each in sent if each.status)
    return {
        "killed": ", ".join(f"{what} {count}" for what, count in sorted(broken.items()) if what != "redis"),
        "FLUSHALL": str(broken["redis"]),
        "rotations": str(len(evidence.presentations)),
        "pairs lost with a killed worker": str(sum(evidence.granted.values()) - sum(evidence.saved.values())),
        "connections that ended with one": str(len(evidence.ended)),
        "requests sent": str(len(sent)),
        "connections broken by a kill": str(sum(each.status == 0 for each in sent)),
        "answers": ", ".join(f"{word} {count}" for word, count in words.most_common()),
        "tokens handed out": str(len(given)),
        "… replaced at the provider, not saved yet": str(sum(bool(end and end < s.sent_at) for s, end in lives)),
        "… replaced while the request was under way": str(
            sum(bool(end and s.sent_at <= end <= s.ended_at) for s, end in lives)
        ),
        "calls answered by the provider": str(sum(each.is_from_provider for each in calls)),
        "… sent again after a 401": str(met_401),
        "writes carried out": str(len(evidence.notes)),
        "requests at the API, with the syncs'": str(len(evidence.arrivals)),
        "most of an account in a minute": f"{most_in_a_minute(evidence.arrivals)} of {evidence.limit}",
        "over the limit within a minute of a FLUSHALL": str(forgiven),
        "wait for a token, p50 and p99": quantiles(s.ended_at - s.sent_at for s in sent if s.kind == "token"),
        "wait for a call, p50 and p99": quantiles(s.ended_at - s.sent_at for s in calls),
    }


def most_in_a_minute(arrivals: Iterable[Arrival]) -> int:
    by_account: dict[str, list[float]] = defaultdict(list)
    for arrival in arrivals:
        by_account[arrival.account].append(arrival.at)
    return max(
        (
            number - bisect_right(times, at - minute)
            for times in map(sorted, by_account.values())
            for number, at in enumerate(times, start=1)
        ),
        default=0,
    )


def quantiles(values: Iterable[float]) -> str:
    ordered = sorted(values)
    if not ordered:
        return "none"
    return ", ".join(f"{ordered[min(int(len(ordered) * q), len(ordered) - 1)] * 1000:.0f} ms" for q in (0.5, 0.99))
