"""In which way a list is cut into pages, and what the request for each of them says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Paging = Literal["laravel", "laravel_resource", "page", "offset", "cursor", "link", "none"]
whole_body = "[]"
"""In the place of a path: the body itself is the list."""
counted_by_number: frozenset[Paging] = frozenset({"laravel", "laravel_resource", "page"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFormat:
    """How the pages of a list are asked for, and where its records and its end are found.

    Paths are dotted; see `json_path`.

    paging: the way. `laravel` and `laravel_resource` count pages as Laravel does. `page` asks for a page by its number,
        `offset` by how many records come before it, `cursor` with a text from the page before, `link` at the URL that
        the page before names. `none` means that one answer has everything.
    items: the path of the list of records; `[]` if the body is that list. Empty means `[]` too, but with `none` that
        the body is the one record, or the object in its `data`.
    total: the path of the exact number of records on all pages; empty if the answer has none, or an estimate.
    more: the path of what is true, or not empty, as long as there is another page.
    cursor: the path of the next page's cursor; beginning with `[-1].`, a path into the page's last record. With `link`
        the path of the next page's URL; empty if the `Link` header has it (RFC 8288).
    cursor_parameter, page_parameter, offset_parameter: what the request for a page calls its cursor, number or offset.
    first_page, first_offset: the number of the first page, and the offset of the first record.
    size_parameter, size: what a request calls the number of records that it wants, and that number; not sent if empty.
    """

    paging: Paging = "none"
    items: str = ""
    total: str = ""
    more: str = ""
    cursor: str = ""
    cursor_parameter: str = "cursor"
    page_parameter: str = "page"
    first_page: int = 1
    offset_parameter: str = "offset"
    first_offset: int = 0
    size_parameter: str = ""
    size: int = 100

    @property
    def is_laravel(self) -> bool:
        """Whether pages, totals and records are where Laravel puts them."""
        return self.paging in ("laravel", "laravel_resource")

    @property
    def has_total(self) -> bool:
        """Whether a page says how many records its list has."""
        return self.is_laravel or bool(self.total)


@dataclass(frozen=True, slots=True)
class PageAsked:
    """The page of a list that is asked for.

    number: 1 for the first one.
    cursor: what its request needs to know of the page before: the provider's cursor, how many records came until then,
        or where the page is below the API's URL. None for the first one, and if the number is enough.
    """

    number: int = 1
    cursor: str | None = None


def parameters_of(form: PageFormat, asked: PageAsked) -> Mapping[str, str]:
    """Return the parameters of the request for a page; of a page that is found by a link, only those of the first."""
    if form.paging == "none" or is_linked(form, asked):
        return {}
    sized = {form.size_parameter: str(form.size)} if form.size_parameter else {}
    match form.paging:
        case "laravel" | "laravel_resource":
            return {"page": str(asked.number)}
        case "page":
            return sized | {form.page_parameter: str(asked.number - 1 + form.first_page)}
        case "offset":
            return sized | {form.offset_parameter: str(form.first_offset + count_read(asked))}
        case "cursor" if asked.cursor is not None:
            return sized | {form.cursor_parameter: asked.cursor}
        case _:
            return sized


def target_of(form: PageFormat, asked: PageAsked, path: str) -> str:
    """Return where below the API's URL a page is: at the list's own path, or where the page before said."""
    return asked.cursor if is_linked(form, asked) and asked.cursor is not None else path


def count_read(asked: PageAsked) -> int:
    """Return how many records came before a page that is found by its number or offset.

    Race: the profile says another paging than when the page before was read. Then the count is wrong, and so the list
    is read again.
    """
    cursor = asked.cursor or ""
    return int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 11 else 0


def is_linked(form: PageFormat, asked: PageAsked) -> bool:
    """Whether the page is at a link of the page before.

    Race: the profile says another paging than then. Any other cursor behind the API's URL might be another host.
    """
    return form.paging == "link" and asked.cursor is not None and asked.cursor.startswith("/")
