"""Lengths of time as people write them in settings and profiles."""

import re
from datetime import timedelta


def parse_duration(text: str) -> timedelta:
    """A length of time of up to a year: `500ms`, `30s`, `15m`, `2h`, `1d`, or seconds without a unit."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h|d|)", text)
    units = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86_400}
    length = timedelta(seconds=float(match[1]) * units[match[2]]) if match else timedelta()
    if not timedelta() < length <= timedelta(days=366):
        raise ValueError("expected a length of time like 30s, 15m, 2h or seconds, more than none and up to a year")
    return length
