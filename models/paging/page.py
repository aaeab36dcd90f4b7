"""What is on a page: its records, how many its list has, and whether and where there is another one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.paging.json_path import look_up
from models.paging.link import find_next, resolve
from models.paging.page_format import PageAsked, PageFormat, count_read, whole_body

largest_number = 10**9
longest_cursor = 4096
longest_page = 1000
of_last_record = "[-1]."


@dataclass(frozen=True, slots=True)
class Page:
    """The elements of one page and where it is in its list.

    last: the number of the last page. If the provider does not say it, one more than the page's own until the end.
    total: the provider's count over all pages; None if it gives none.
    is_clean: whether every text of the elements can be stored as it is.
    cursor: what the request for the next page needs besides its number (see `PageAsked`).
    size: how many bytes its body had.
    """

    elements: tuple[object, ...]
    number: int
    last: int
    total: int | None
    is_clean: bool = field(default=False, compare=False)
    cursor: str | None = None
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class NoPage:
    """The body is no page of this list, and why; `is_lasting` if asking again would not help, because the provider's
    profile describes another list."""

    why: str
    is_lasting: bool = True


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """The answer with a page: its JSON, its headers by their names in small letters, and where it came from.

    url: the URL that was asked.
    api_url: the API's, below which the next page has to be.
    """

    body: object
    headers: Mapping[str, str]
    url: str = ""
    api_url: str = ""
    is_clean: bool = False


def read_page(answer: PageAnswer, form: PageFormat, asked: PageAsked) -> Page | NoPage:
    """Return the page, or why there is none."""
    if form.is_laravel:
        return _read_numbered(answer, form, asked.number)
    found = _find_elements(answer.body, form)
    if isinstance(found, NoPage):
        return found
    elements = tuple(found)
    if len(elements) > longest_page:
        return NoPage(f"the page has more than {longest_page} elements", is_lasting=False)
    if form.paging == "none":
        return Page(elements, 1, 1, len(elements), answer.is_clean)
    total = read_count(look_up(answer.body, form.total)) if form.total else None
    if form.total and total is None:
        return NoPage(f"there is no number at {form.total}")
    following = _find_cursor(answer, form, asked, elements, total)
    if isinstance(following, NoPage):
        return following
    last = asked.number if following is None else asked.number + 1
    return Page(elements, asked.number, last, total, answer.is_clean, following)


def read_count(value: object) -> int | None:
    """Return a number of pages or records, which some send as a text; None if it makes no sense."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest_number
    return int(value) if is_count and isinstance(value, int) else None


def _find_elements(body: object, form: PageFormat) -> list[object] | NoPage:
    if form.paging == "none" and not form.items:
        if not isinstance(body, dict):
            return NoPage("the body is no JSON object", is_lasting=False)
        inner = body.get("data")
        return [inner if isinstance(inner, dict) else body]
    if form.items in ("", whole_body):
        return body if isinstance(body, list) else NoPage("the body is no list")
    found = look_up(body, form.items)
    return found if isinstance(found, list) else NoPage(f"there is no list at {form.items}")


def _find_cursor(
    answer: PageAnswer, form: PageFormat, asked: PageAsked, elements: tuple[object, ...], total: int | None
) -> str | NoPage | None:
    """Return what the request for the next page needs; None if this page is the last one."""
    if form.more and not look_up(answer.body, form.more):
        return None
    match form.paging:
        case "cursor":
            return _check_cursor(_read_cursor(answer.body, form, elements), asked)
        case "link":
            return _find_link(answer, form, asked)
        case _:
            # Without a total or a sign the end is only known by a page with nothing on it: a short page may be a
            # server's own limit.
            read = count_read(asked) + len(elements)
            return str(read) if elements and (total is None or read < total) else None


def _read_cursor(body: object, form: PageFormat, elements: tuple[object, ...]) -> object:
    if not form.cursor.startswith(of_last_record):
        return look_up(body, form.cursor)
    return look_up(elements[-1], form.cursor.removeprefix(of_last_record)) if elements else None


def _check_cursor(value: object, asked: PageAsked) -> str | NoPage | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return NoPage("the next page's cursor is neither a text nor a number")
    cursor = str(value)
    if len(cursor) > longest_cursor or not cursor.isprintable():
        return NoPage(f"the next page's cursor has control characters, or more than {longest_cursor} of any kind")
    return NoPage("the next page's cursor is the one of this page") if cursor == asked.cursor else cursor


def _find_link(answer: PageAnswer, form: PageFormat, asked: PageAsked) -> str | NoPage | None:
    link = look_up(answer.body, form.cursor) if form.cursor else find_next(answer.headers.get("link", ""))
    if link is None or link == "":
        return None
    target = resolve(link, answer.url, answer.api_url) if isinstance(link, str) else None
    if target is None:
        return NoPage("the link to the next page leads out of the API's URL, and is not followed")
    return _check_cursor(target, asked)


def _read_numbered(answer: PageAnswer, form: PageFormat, page: int) -> Page | NoPage:
    """Return a page of Laravel's: its numbers are in the body, or of a resource in its `meta`."""
    body = answer.body
    if not isinstance(body, dict):
        return NoPage("the body is no JSON object", is_lasting=False)
    numbers = body if form.paging == "laravel" else body.get("meta")
    elements = _read_elements(body.get("data"))
    if not isinstance(numbers, dict) or elements is None:
        return NoPage("the body is no page", is_lasting=False)
    current, last = (_read_own_number(numbers.get(name)) for name in ("current_page", "last_page"))
    total = read_count(numbers.get("total"))
    if len(elements) > longest_page:
        return NoPage(f"the page has more than {longest_page} elements", is_lasting=False)
    if current is None or last is None or total is None:
        return NoPage("the page's numbers are missing or senseless", is_lasting=False)
    if current != page:
        return NoPage(f"page {page} was asked for, page {current} came", is_lasting=False)
    return Page(tuple(elements), page, max(last, 1), total, answer.is_clean)


def _read_elements(data: object) -> list[object] | None:
    """Return a page's elements; Laravel sends a collection that it filtered as an object with numbers as its keys."""
    if isinstance(data, dict) and all(key.isascii() and key.isdigit() and len(key) < 10 for key in data):
        return [data[key] for key in sorted(data, key=int)]
    return data if isinstance(data, list) else None


def _read_own_number(value: object) -> int | None:
    """Return the number of a page, which Laravel computes itself and never sends as a text."""
    return None if isinstance(value, str) else read_count(value)
