"""Commands as any language writes them: fields read into a command, or refused with what was expected."""

from datetime import UTC, datetime

import pytest

from models.crypto.secrets import Secret
from models.messaging.commands import (
    CarryOutCall,
    Command,
    CommandRefused,
    Confirm,
    asked_at,
    hide_secrets,
    read_command,
)

good: dict[str, tuple[dict[str, str], Command | Confirm | CarryOutCall]] = {
    "one connection": ({"type": "sync", "connection_id": "c1"}, Command("sync", "c1")),
    "a user": ({"type": "refresh", "user_id": "ada"}, Command("refresh", None, "ada")),
    "a user at one provider": (
        {"type": "sync", "user_id": "ada", "provider": "breezedoc"},
        Command("sync", None, "ada", "breezedoc"),
    ),
    "a disconnect": ({"type": "disconnect", "connection_id": "c1"}, Command("disconnect", "c1")),
    "a disconnect with the records": (
        {"type": "disconnect", "connection_id": "c1", "erase": "True"},
        Command("disconnect", "c1", erase=True),
    ),
    "erase said no": ({"type": "sync", "connection_id": "c1", "erase": "false"}, Command("sync", "c1")),
    "an empty field is none": ({"type": "sync", "connection_id": "c1", "user_id": ""}, Command("sync", "c1")),
    "a field of the sender's own": (
        {"type": "sync", "user_id": "ada", "trace": "x" * 9999},
        Command("sync", None, "ada"),
    ),
    "a confirmation": (
        {"type": "confirm", "authorization_id": "a1", "user_id": "ada", "confirmation": "x"},
        Confirm("a1", "ada", Secret("x")),
    ),
    "a call": ({"type": "call", "call_id": "k1", "connection_id": "c1"}, CarryOutCall("k1")),
    "any script": ({"type": "sync", "user_id": "Ада Лавлейс"}, Command("sync", None, "Ада Лавлейс")),
}

bad: dict[str, tuple[dict[bytes, bytes], str]] = {
    "nothing": ({}, "type"),
    "no type": ({b"connection_id": b"c1"}, "type"),
    "an unknown type": ({b"type": b"explode", b"connection_id": b"c1"}, "sync, refresh, disconnect"),
    "nobody": ({b"type": b"sync"}, "either connection_id or user_id"),
    "a connection and a user": ({b"type": b"sync", b"connection_id": b"c", b"user_id": b"u"}, "either"),
    "a provider alone": ({b"type": b"sync", b"connection_id": b"c", b"provider": b"p"}, "provider needs user_id"),
    "erase for a sync": ({b"type": b"sync", b"connection_id": b"c", b"erase": b"1"}, "erase is only for disconnect"),
    "erase in other words": ({b"type": b"disconnect", b"connection_id": b"c", b"erase": b"please"}, "true or false"),
    "bytes that are no text": ({b"type": b"sync", b"user_id": b"\xff\xfe"}, "user_id is not UTF-8"),
    "a NUL": ({b"type": b"sync", b"user_id": b"a\x00b"}, "NUL"),
    "a confirmation of nothing": ({b"type": b"confirm", b"user_id": b"u", b"confirmation": b"x"}, "authorization_id"),
    "a confirmation for no user": (
        {b"type": b"confirm", b"authorization_id": b"a", b"confirmation": b"x", b"user_id": b""},
        "authorization_id, user_id and confirmation",
    ),
    "an endless confirmation": (
        {b"type": b"confirm", b"authorization_id": b"a", b"user_id": b"u", b"confirmation": b"x" * 256},
        "255",
    ),
    "no call": ({b"type": b"call", b"connection_id": b"c1"}, "call_id"),
    "an endless id": ({b"type": b"sync", b"connection_id": b"c" * 256}, "255"),
}


@pytest.mark.parametrize("case", good)
def test_fields_spell_a_command(case: str) -> None:
    fields, expected = good[case]
    assert read_command({name.encode(): value.encode() for name, value in fields.items()}) == expected


@pytest.mark.parametrize("case", bad)
def test_what_can_not_be_read_is_refused_with_what_was_expected(case: str) -> None:
    fields, expected = bad[case]
    with pytest.raises(CommandRefused, match=expected):
        read_command(fields)


def test_a_rejected_confirmation_is_kept_without_its_value() -> None:
    kept = hide_secrets({b"type": b"confirm", b"confirmation": b"the value", b"user_id": b"ada"})
    assert kept == {b"type": b"confirm", b"confirmation": b"***", b"user_id": b"ada"}


now = datetime(2027, 1, 15, 8, tzinfo=UTC)
entries: dict[str, tuple[bytes, datetime]] = {
    "before now": (b"1799999999250-3", datetime(2027, 1, 15, 7, 59, 59, 250_000, tzinfo=UTC)),
    "now": (b"1800000000000-0", now),
    "by a clock that is ahead": (b"1800000009000-0", now),
    "under a number of the sender's own": (b"18446744073709551615-1", now),
}


@pytest.mark.parametrize("case", entries)
def test_a_command_was_asked_for_when_it_was_written(case: str) -> None:
    entry_id, expected = entries[case]
    assert asked_at(entry_id, now) == expected
