"""A server that refuses all at once, and people who really revoke: what each costs."""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.torture.outage.world import World, world_on

minute = timedelta(minutes=1)
day = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What came of it.

    told: users who were told to authorize again, by reason.
    erased: active connections or ended ones without their tokens.
    held: the most connections that were held at a time.
    fresh_after: how long after the trouble's end every active connection was fresh; None if that never came.
    latest: the longest time from a revocation to its event; None if no one revoked.
    """

    connections: int
    told: Counter[str]
    erased: int
    held: int
    fresh_after: timedelta | None
    latest: timedelta | None
    events: Counter[str]


def rekey(
    database_url: str, connections: int = 5000, out: timedelta = 60 * minute, step: timedelta = 5 * minute / 60
) -> Cost:
    """The server can't read its own tokens, and an hour later it can again."""
    with world_on(database_url, "harmless", 60 * minute, token_requests_per_minute=max(connections // 5, 60)) as world:
        world.connect(connections)
        world.pass_time(10 * minute, step)
        world.server.is_rekeyed = True
        held = watch(world, out, step)
        world.server.is_rekeyed = False
        return cost_of(world, connections, held, wait_until_fresh(world, step), None)


def restore(
    database_url: str, connections: int = 5000, out: timedelta = 60 * minute, step: timedelta = 5 * minute / 60
) -> Cost:
    """The server's database was restored from before anybody connected: every token is revoked."""
    with world_on(database_url, "harmless", 60 * minute, token_requests_per_minute=max(connections // 5, 60)) as world:
        world.connect(connections)
        world.pass_time(10 * minute, step)
        world.server.revoked.update(str(each) for each in range(connections))
        held = watch(world, out, step)
        return cost_of(world, connections, held, None, None)


def monday(
    database_url: str,
    connections: int = 5000,
    share: float = 0.03,
    length: timedelta = day,
    step: timedelta = minute / 2,
) -> Cost:
    """A day on which some people really revoke, at times of their own."""
    dice = random.Random(5)
    with world_on(database_url, "harmless", day, token_requests_per_minute=max(connections // 5, 60)) as world:
        world.connect(connections)
        world.pass_time(10 * minute, step)
        began = world.clock()
        who = dice.sample(range(connections), round(connections * share))
        times = sorted((began + length * 0.9 * dice.random(), str(each)) for each in who)
        revoked: dict[str, datetime] = {}
        while world.clock() < began + length:
            while times and times[0][0] <= world.clock():
                _, account = times.pop(0)
                revoked[account] = world.clock()
                world.server.revoked.add(account)
                world.make_sync_due(f"c{int(account):05}", world.clock() + 15 * minute * dice.random())
            world.pass_time(step, step)
        told = world.ended_at()
        latest = max(
            (told[f"c{int(each):05}"] - at for each, at in revoked.items() if f"c{int(each):05}" in told), default=None
        )
        return cost_of(world, connections, 0, None, latest)


def watch(world: World, length: timedelta, step: timedelta) -> int:
    """Let time pass; return the most connections that were held at a time."""
    end, most = world.clock() + length, 0
    while world.clock() < end:
        world.pass_time(5 * minute, step)
        most = max(most, world.count_held())
    return most


def wait_until_fresh(world: World, step: timedelta, most: timedelta = 120 * minute) -> timedelta | None:
    ended = world.clock()
    while world.clock() - ended < most:
        world.pass_time(minute / 2, step)
        if world.count_held() == 0 and world.count_fresh() == world.count_active() == len(world.ids(10**6)):
            return world.clock() - ended
    return None


def cost_of(world: World, connections: int, held: int, fresh_after: timedelta | None, latest: timedelta | None) -> Cost:
    events = world.told()
    told = Counter(
        {type_.split()[1]: n for type_, n in events.items() if type_.startswith("connection.reauthorization_required")}
    )
    return Cost(connections, told, world.count_erased(), held, fresh_after, latest, events)
