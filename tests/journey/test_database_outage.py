"""The database is away while work comes in: no dead letter, no traceback, and all of it is done afterwards."""

import re
import time
from pathlib import Path

import redis

from models.messaging.messages import QUEUES
from tests.processes import Fleet, Listener, running_fleet
from tests.servers import own_postgres, postgres_user

outage = 15.0


def dead_letters(redis_url: str) -> dict[str, int]:
    with redis.Redis.from_url(redis_url) as client:
        counts = {queue: int(client.zcard(f"dramatiq:{queue}.XQ")) for queue in set(QUEUES.values())}
    return {queue: count for queue, count in counts.items() if count}


def read_logs(fleet: Fleet) -> str:
    return "".join(program.log.read_text() for program in fleet.programs)


def test_an_outage_leaves_no_dead_letter_and_no_traceback(redis_url: str, tmp_path: Path) -> None:
    with own_postgres(postgres_user()) as server:
        url = server.url.render_as_string(False)
        with running_fleet(url, redis_url, tmp_path) as fleet:
            listener = Listener(redis_url)
            connections = [fleet.connect(f"user-{number}", number % 2 + 1) for number in range(3)]
            for connection in connections:
                fleet.has_synced(listener, connection)
            server.stop()
            until = time.monotonic() + outage
            while time.monotonic() < until:
                for connection in connections:
                    fleet.ask("refresh_token", "refresh", connection_id=connection)
                    fleet.ask("carry_out_refresh", "refresh", connection_id=connection)
                    fleet.ask("sync_connection", "sync", connection_id=connection)
                    fleet.ask("read_connection", "reading", connection_id=connection)
                time.sleep(1)
            server.start()
            for connection in connections:
                fleet.has_synced(listener, connection, times=2)
                fleet.wait_until(
                    lambda connection=connection: listener.about(connection, "connection.refreshed") != [],  # type: ignore[misc]
                    "what was asked for is refreshed",
                )
            assert dead_letters(redis_url) == {}
            logs = read_logs(fleet)
            listener.close()
        assert "Traceback" not in logs
        assert re.findall(r'"level": ?"(error|critical)"', logs) == []
        assert "message.retried" in logs
