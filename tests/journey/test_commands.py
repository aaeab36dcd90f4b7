"""Commands of an application in any language, through real processes, also when the one that read them is killed."""

from datetime import timedelta

import redis

from tests.processes import Fleet, Listener, Program

stream = "breezesync:commands"


def command(fleet: Fleet, **fields: str) -> None:
    with redis.Redis.from_url(fleet.redis_url) as application:
        application.xadd(stream, dict(fields.items()))


def schedulers(fleet: Fleet) -> list[Program]:
    return [program for program in fleet.programs if program.name.startswith("scheduler") and program.runs]


def test_a_sync_and_a_disconnect_are_done_as_commanded(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Mary", documents=2)
    connection = fleet.connect("mary", account)
    fleet.has_synced(listener, connection)
    command(fleet, type="sync", user_id="mary")
    fleet.has_synced(listener, connection, times=2)
    command(fleet, type="refresh", connection_id=connection)
    fleet.wait_until(lambda: bool(listener.about(connection, "connection.refreshed")), "connection.refreshed")
    command(fleet, type="disconnect", connection_id=connection, erase="true")
    fleet.wait_until(lambda: bool(listener.about(connection, "connection.disconnected")), "connection.disconnected")
    fleet.wait_until(
        lambda: not fleet.rows("SELECT 1 FROM record WHERE connection_id = :id", id=connection), "its records are gone"
    )
    [sealed] = fleet.rows("SELECT access_token, refresh_token FROM credential WHERE connection_id = :id", id=connection)
    assert (sealed.access_token, sealed.refresh_token) == (None, None)


def test_a_command_outlives_the_scheduler_that_is_killed_and_one_that_stands_still(
    fleet: Fleet, listener: Listener
) -> None:
    account = fleet.control.add_user("Annie", documents=1)
    connection = fleet.connect("annie", account)
    fleet.has_synced(listener, connection)
    first, *others = schedulers(fleet)
    fleet.pause(first)
    for other in others:
        other.kill()
    command(fleet, type="sync", connection_id=connection)
    first.kill()
    for _ in range(2):
        fleet.start_scheduler()
    fleet.wait_until(
        lambda: len(listener.about(connection, "sync.completed")) == 2,
        "the command is carried out",
        timedelta(seconds=60).total_seconds(),
    )
