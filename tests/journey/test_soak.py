"""The soak in short; `make soak` is the long one."""

from pathlib import Path

from tests.servers import Valkey
from tests.torture.soak import soak


def test_every_event_arrives_in_order_whatever_is_killed_paused_or_emptied(
    postgres_url: str, own_valkey: Valkey, tmp_path: Path
) -> None:
    figures = soak(600, 30, 7, postgres_url, own_valkey, tmp_path, lambda line: None)
    assert figures.events > 600
    assert figures.applied == {"slow": figures.events, "crashing": figures.events}
    assert (figures.redis_emptied, figures.redis_killed, figures.workers_killed) == (2, 1, 3)
