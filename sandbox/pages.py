"""Laravel's two page formats: the flat paginator and the resource collection."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from sandbox.http import encode_json

Item = TypeVar("Item")

PER_PAGE = 10


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list at `path`; the last page of an empty list is 1."""

    path: str
    number: int
    total: int

    @property
    def start(self) -> int:
        return (self.number - 1) * PER_PAGE

    @property
    def last(self) -> int:
        return max(1, -(-self.total // PER_PAGE))

    @property
    def shown(self) -> int:
        return max(0, min(PER_PAGE, self.total - self.start))

    def cut(self, ordered: Sequence[Item]) -> Sequence[Item]:
        return ordered[self.start : self.start + PER_PAGE]

    def url(self, number: int) -> str | None:
        """Return a page's URL, None before the first. Like Laravel, it omits the other query parameters."""
        return f"{self.path}?{urlencode({'page': number})}" if number >= 1 else None

    @property
    def previous_url(self) -> str | None:
        """Return the page before, also beyond the end if that page is empty too."""
        return self.url(self.number - 1)

    @property
    def next_url(self) -> str | None:
        return self.url(self.number + 1) if self.number < self.last else None

    @property
    def first_shown(self) -> int | None:
        return self.start + 1 if self.shown else None

    @property
    def last_shown(self) -> int | None:
        return self.start + self.shown if self.shown else None

    def _links(self) -> list[dict[str, object]]:
        numbered: list[dict[str, object]] = [
            {"url": self.url(number), "label": str(number), "active": number == self.number}
            for number in range(max(1, self.number - 2), min(self.last, self.number + 2) + 1)
        ]
        before: dict[str, object] = {"url": self.previous_url, "label": "&laquo; Previous", "active": False}
        after: dict[str, object] = {"url": self.next_url, "label": "Next &raquo;", "active": False}
        return [before, *numbered, after]

    def render_flat(self, rows: Sequence[bytes]) -> bytes:
        """`current_page`, `data`, `last_page`, `next_page_url` … side by side."""
        head = json.dumps({"current_page": self.number}, separators=(",", ":")).encode()[:-1]
        tail = encode_json(
            {
                "first_page_url": self.url(1),
                "from": self.first_shown,
                "last_page": self.last,
                "last_page_url": self.url(self.last),
                "links": self._links(),
                "next_page_url": self.next_url,
                "path": self.path,
                "per_page": PER_PAGE,
                "prev_page_url": self.previous_url,
                "to": self.last_shown,
                "total": self.total,
            }
        )[1:]
        return b"".join((head, b',"data":[', b",".join(rows), b"],", tail))

    def render_collection(self, rows: Sequence[bytes]) -> bytes:
        """`data`, `links` and `meta`."""
        tail = encode_json(
            {
                "links": {
                    "first": self.url(1),
                    "last": self.url(self.last),
                    "prev": self.previous_url,
                    "next": self.next_url,
                },
                "meta": {
                    "current_page": self.number,
                    "from": self.first_shown,
                    "last_page": self.last,
                    "links": self._links(),
                    "path": self.path,
                    "per_page": PER_PAGE,
                    "to": self.last_shown,
                    "total": self.total,
                },
            }
        )[1:]
        return b"".join((b'{"data":[', b",".join(rows), b"],", tail))


def read_page_number(text: str | None) -> int:
    """Read the page number; like Laravel, anything but a positive integer is page 1."""
    return int(text) if text is not None and re.fullmatch(r"[1-9][0-9]{0,8}", text) else 1


def order_rows(rows: Sequence[Item], key: Callable[[Item], float | str | None], *, descending: bool) -> list[Item]:
    """Sorted as MySQL does: null is smaller than anything; equal rows keep their order."""
    present = [(value, row) for row in rows if (value := key(row)) is not None]
    absent = [row for row in rows if key(row) is None]
    present.sort(key=lambda pair: pair[0], reverse=descending)
    ordered = [row for _, row in present]
    return ordered + absent if descending else absent + ordered
