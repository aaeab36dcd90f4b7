"""Where a page begins, as a text that goes into a link."""

import re
from datetime import UTC, datetime, timedelta

from models.store.search import Place

start_of_time = datetime(1970, 1, 1, tzinfo=UTC)
place_pattern = re.compile(r"([0-9]{1,17})-([0-9A-Za-z-]{1,64})")
longest_text = 255


class UnreadablePlace(ValueError):
    """This is not what a page gave out."""


def write_place(at: datetime, id_: str) -> str:
    """Return the text of a row's place: microseconds since 1970, and its id."""
    return f"{(at - start_of_time) // timedelta(microseconds=1)}-{id_}"


def read_place(text: str, is_newer: bool = False) -> Place:
    """Read what `write_place` wrote. Raises `UnreadablePlace`."""
    match = place_pattern.fullmatch(text)
    try:
        if match is not None:
            return Place(start_of_time + timedelta(microseconds=int(match[1])), match[2], is_newer)
    except OverflowError:
        pass
    raise UnreadablePlace("this page can't be found; begin with the first one")


def read_position(text: str) -> int:
    """Read a position in the order of events. Raises `UnreadablePlace`."""
    if re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise UnreadablePlace("this page can't be found; begin with the first one")
    return int(text)


def can_be_stored(text: str) -> bool:
    """Return whether a database could have this text: PostgreSQL takes no NUL, and no half of a pair of surrogates."""
    return len(text) <= longest_text and "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)
