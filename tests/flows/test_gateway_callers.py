"""The gateway and its callers: who has no key."""

from datetime import timedelta

from sqlalchemy import text

from tests.gateway import open_counter
from tests.harness import House
from tests.servers import wait_until


def test_who_has_no_key_is_counted_and_recorded_once_a_minute(house: House) -> None:
    with open_counter(house) as counter:
        for key in ("c4n4ry", "c4n4ry", None):
            counter.ask("GET", "/v1/connections", key)
        wait_until(lambda: len(counter.audited("gateway_key.refused")) == 1, "the first is recorded")
        house.clock.turn(timedelta(minutes=1))
        counter.ask("GET", "/v1/connections", None)
        wait_until(lambda: len(counter.audited("gateway_key.refused")) == 2, "the first of the next minute, too")
        oldest, newest = counter.audited("gateway_key.refused")
        assert (oldest.detail, newest.detail) == ({"reason": "wrong"}, {"reason": "missing", "left_out": 2})
        assert {line.address for line in (newest, oldest)} == {"127.0.0.1"}
        counted = counter.shell.metrics.registry.get_sample_value
        name = "breezesync_gateway_refused_keys_total"
        assert [counted(name, {"reason": reason}) for reason in ("wrong", "missing")] == [2, 2]
        assert "c4n4ry" not in str([newest, oldest])


def test_a_wrong_key_is_refused_while_the_audit_is_away_and_counted_as_left_out(house: House) -> None:
    with open_counter(house) as counter:
        with house.store.engine.begin() as sql:
            sql.execute(text("ALTER TABLE audit RENAME TO gone"))
        try:
            assert counter.ask("GET", "/v1/connections", "wrong").status_code == 401
            wait_until(lambda: counter.shell.door.refused.left_out == 1, "the missing line is counted")
        finally:
            with house.store.engine.begin() as sql:
                sql.execute(text("ALTER TABLE gone RENAME TO audit"))
        house.clock.turn(timedelta(minutes=1))
        counter.ask("GET", "/v1/connections", "wrong")
        wait_until(lambda: len(counter.audited("gateway_key.refused")) == 1, "the next is recorded")
        [line] = counter.audited("gateway_key.refused")
        assert line.detail == {"reason": "wrong", "left_out": 1}
