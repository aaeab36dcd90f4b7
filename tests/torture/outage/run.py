"""An outage of the token endpoint in the middle of the life of many connections, and what it costs."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from models.http import HttpAnswer, NoAnswer
from models.provider import RefreshReuse
from tests.torture.outage.world import Answer, World, world_on
from worker.oauth.refresh import RefreshRequest

minute = timedelta(minutes=1)
page = b"<!DOCTYPE html><title>Just a moment</title>"
html = {"content-type": "text/html"}

kinds: Mapping[str, Answer] = {
    "502": HttpAnswer(502, html, page),
    "503": HttpAnswer(503, {}, b""),
    "301": HttpAnswer(301, {"location": "https://www.model.example/"}, b""),
    "302": HttpAnswer(302, {"location": "/maintenance"}, b""),
    "HTML 403": HttpAnswer(403, html, page),
    "HTML 200": HttpAnswer(200, html, page),
    "timeout": NoAnswer(True, "ReadTimeout"),
    "reset": NoAnswer(True, "RemoteProtocolError"),
    "no connection": NoAnswer(False, "ConnectError"),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one outage cost.

    in_flight: requests that were under way when it began, their grants run and their answers lost.
    lost: connections that ended.
    most_shown: the most presentations of one refresh token, over the whole run.
    shown: how many refresh tokens the endpoint saw while it was out.
    per_minute: token requests a minute while it was out, probes included.
    fresh_after: how long after its end every connection that lives was fresh again; None if that never came.
    """

    kind: str
    reuse: str
    in_flight: int
    lost: int
    most_shown: int
    shown: int
    per_minute: float
    fresh_after: timedelta | None
    events: Counter[str]


def measure(
    database_url: str,
    kind: str,
    reuse: RefreshReuse,
    *,
    connections: int = 1000,
    in_flight: int = 3,
    before: timedelta = 8 * minute,
    outage: timedelta = 30 * minute,
    step: timedelta = timedelta(seconds=2),
) -> Cost:
    """Play one outage."""
    per_minute = max(connections, 60)
    with world_on(database_url, reuse, 10 * minute, token_requests_per_minute=per_minute) as world:
        world.connect(connections)
        world.pass_time(before, step)
        taken = begin_in_flight(world, in_flight)
        world.server.breaks = lambda: kinds[kind]
        answer = kinds[kind]
        for lose in taken:
            lose(answer if isinstance(answer, HttpAnswer) or answer.sent else NoAnswer(True, "RemoteProtocolError"))
        began, shown_before = world.clock(), shown(world)
        world.pass_time(outage, step)
        ended = world.clock()
        world.server.breaks = None
        asked = sum(began <= at < ended for at, _ in world.server.requests)
        seen = sum(n > shown_before[token] for token, n in shown(world).items())
        fresh_after = wait_until_fresh(world, step)
        return Cost(
            kind,
            reuse,
            in_flight,
            connections - world.count_active(),
            max(shown(world).values()),
            seen,
            asked / (outage / minute),
            fresh_after,
            world.told(),
        )


def begin_in_flight(world: World, number: int) -> list[Callable[[Answer], None]]:
    """Send that many refreshes whose grants the server runs; each returned call loses one of the answers."""
    lose: list[Callable[[Answer], None]] = []
    for id_ in world.ids(number):
        with world.store.writing() as tx:
            tx.connections.make_refresh_due(id_, world.clock())
        request = world.refresh.take(id_)
        if request is None:
            raise AssertionError("nothing could be sent before the outage")
        world.server.present(request.refresh_token.reveal())
        lose.append(partial(save_answer, world, request))
    return lose


def save_answer(world: World, request: RefreshRequest, answer: Answer) -> None:
    world.refresh.save(request, world.called(answer))


def shown(world: World) -> Counter[str]:
    return Counter({value: token.presentations for value, token in world.server.tokens.items()})


def wait_until_fresh(world: World, step: timedelta, most: timedelta = 60 * minute) -> timedelta | None:
    """Let time pass until every active connection has a token that works and nothing is unknown."""
    ended = world.clock()
    while world.clock() - ended < most:
        world.pass_time(step, step)
        if world.count_fresh() == world.count_active() and world.count_unknown() == 0:
            return world.clock() - ended
    return None


def draw(costs: list[Cost], title: str) -> str:
    head = ("outage", "reuse", "in flight", "lost", "most shown", "shown in it", "requests/min", "all fresh after")
    rows = [
        (
            cost.kind,
            cost.reuse,
            str(cost.in_flight),
            str(cost.lost),
            str(cost.most_shown),
            str(cost.shown),
            f"{cost.per_minute:.1f}",
            "never" if cost.fresh_after is None else f"{cost.fresh_after.total_seconds():.0f} s",
        )
        for cost in costs
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        [title, *("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in (head, *rows))]
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a run takes minutes


def measure_all(make_url: Callable[[], str], connections: int, chosen: Sequence[str], step: timedelta) -> list[Cost]:
    costs = []
    reuses: tuple[RefreshReuse, ...] = ("harmless", "family_revoked")
    for reuse in reuses:
        for kind in chosen:
            started = time.monotonic()
            costs.append(measure(make_url(), kind, reuse, connections=connections, step=step))
            say(draw(costs[-1:], f"after {time.monotonic() - started:.0f} s"))
    return costs
