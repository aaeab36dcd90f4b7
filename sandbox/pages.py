"""Laravel's two page formats: the flat paginator and the resource collection."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

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
        """Return a page's URL, None beyond either end. Like Laravel, it omits the other query parameters."""
        if not 1 <= number <= self.last:
            return None
        return f"{self.path}?{urlencode({'page': number})}"

    def _bounds(self) -> dict[str, int | None]:
        first = self.start + 1 if self.shown else None
        return {"from": first, "to": self.start + self.shown if self.shown else None}

    def _links(self) -> list[dict[str, object]]:
        numbered: list[dict[str, object]] = [
            {"url": self.url(number), "label": str(number), "active": number == self.number}
            for number in range(max(1, self.number - 2), min(self.last, self.number + 2) + 1)
        ]
        before: dict[str, object] = {"url": self.url(self.number - 1), "label": "&laquo; Previous", "active": False}
        after: dict[str, object] = {"url": self.url(self.number + 1), "label": "Next &raquo;", "active": False}
        return [before, *numbered, after]

    def render_flat(self, rows: Sequence[bytes]) -> bytes:
        """`current_page`, `data`, `last_page`, `next_page_url` … side by side."""
        head = json.dumps({"current_page": self.number}, separators=(",", ":")).encode()[:-1]
        tail = json.dumps(
            {
                "first_page_url": self.url(1),
                "last_page": self.last,
                "last_page_url": self.url(self.last),
                "links": self._links(),
                "next_page_url": self.url(self.number + 1),
                "path": self.path,
                "per_page": PER_PAGE,
                "prev_page_url": self.url(self.number - 1),
                "total": self.total,
                **self._bounds(),
            },
            separators=(",", ":"),
        ).encode()[1:]
        return b"".join((head, b',"data":[', b",".join(rows), b"],", tail))

    def render_collection(self, rows: Sequence[bytes]) -> bytes:
        """`data`, `links` and `meta`."""
        tail = json.dumps(
            {
                "links": {
                    "first": self.url(1),
                    "last": self.url(self.last),
                    "prev": self.url(self.number - 1),
                    "next": self.url(self.number + 1),
                },
                "meta": {
                    "current_page": self.number,
                    "last_page": self.last,
                    "links": self._links(),
                    "path": self.path,
                    "per_page": PER_PAGE,
                    "total": self.total,
                    **self._bounds(),
                },
            },
            separators=(",", ":"),
        ).encode()[1:]
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
