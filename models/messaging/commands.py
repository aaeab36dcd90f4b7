"""The commands stream: an entry's fields, read into a command or a confirmation, or refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from models.crypto.secrets import Secret

Verb = Literal["sync", "refresh", "disconnect"]
verbs: tuple[str, ...] = get_args(Verb)
types: tuple[str, ...] = (*verbs, "confirm", "call")
longest_id = 255
truths = {"true": True, "1": True, "false": False, "0": False, "": False}


class CommandRefused(Exception):
    """An entry that cannot be carried out; the message says why, for the application's developer."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command, for one connection or for all connections of a user, optionally at one provider only."""

    verb: Verb
    connection_id: str | None = None
    user_id: str | None = None
    provider: str | None = None
    erase: bool = False


@dataclass(frozen=True, slots=True)
class Confirm:
    """An application's answer: the user of its own session, and the value that the browser brought to `return_to`."""

    authorization_id: str
    user_id: str
    confirmation: Secret


@dataclass(frozen=True, slots=True)
class CarryOutCall:
    """A call that the gateway has accepted, to be carried out if it is due."""

    call_id: str


def read_command(fields: Mapping[bytes, bytes]) -> Command | Confirm | CarryOutCall:
    """Read a command; other fields belong to the sender and are ignored. Raises `CommandRefused`."""
    texts = {name: _read_text(name, value) for name, value in fields.items() if name in _known}
    if texts.get(b"type") == "confirm":
        return _read_confirm(texts)
    if texts.get(b"type") == "call":
        return _read_call(texts)
    verb, erase = texts.get(b"type", ""), texts.get(b"erase", "").lower()
    connection_id, user_id, provider = (texts.get(name) or None for name in (b"connection_id", b"user_id", b"provider"))
    if verb not in verbs:
        raise CommandRefused(f"expected the field type to be one of {', '.join(types)}")
    if (connection_id is None) == (user_id is None):
        raise CommandRefused("expected either connection_id or user_id")
    if provider is not None and user_id is None:
        raise CommandRefused("provider needs user_id")
    if erase not in truths:
        raise CommandRefused("expected erase to be true or false")
    if truths[erase] and verb != "disconnect":
        raise CommandRefused("erase is only for disconnect")
    return Command(verb, connection_id, user_id, provider, truths[erase])  # type: ignore[arg-type]  # one of verbs


def asked_at(entry_id: bytes, now: datetime) -> datetime:
    """Return when an entry was written, by the Redis time in its id; never later than now."""
    written_ms = int(entry_id.split(b"-")[0])
    if written_ms >= now.timestamp() * 1000:
        return now
    return datetime.fromtimestamp(written_ms / 1000, UTC)


def hide_secrets(fields: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return an entry's fields without the one-time value of a `confirm`, to be kept with why it was rejected."""
    return {name: b"***" if name == b"confirmation" else value for name, value in fields.items()}


_of_confirm = (b"authorization_id", b"user_id", b"confirmation")
_known = frozenset(
    {b"type", b"connection_id", b"user_id", b"provider", b"erase", b"authorization_id", b"confirmation", b"call_id"}
)


def _read_confirm(texts: Mapping[bytes, str]) -> Confirm:
    authorization_id, user_id, confirmation = (texts.get(name, "") for name in _of_confirm)
    if not (authorization_id and user_id and confirmation):
        raise CommandRefused("expected authorization_id, user_id and confirmation")
    return Confirm(authorization_id, user_id, Secret(confirmation))


def _read_call(texts: Mapping[bytes, str]) -> CarryOutCall:
    call_id = texts.get(b"call_id", "")
    if not call_id:
        raise CommandRefused("expected call_id, which the gateway answers with")
    return CarryOutCall(call_id)


def _read_text(name: bytes, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise CommandRefused(f"{name.decode()} is not UTF-8") from None
    if len(text) > longest_id or "\x00" in text:
        raise CommandRefused(f"expected {name.decode()} to have up to {longest_id} characters, none of them NUL")
    return text
