"""What reading an answer costs is bounded by memory and work, not by bytes alone; counted, never timed."""

import json
import re
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.profiles import read_profile
from models import exact_json, http
from models.api_response import Failed, Page, page_memory, read_api_answer
from models.crypto import redact
from models.crypto.redact import excerpt
from models.http import HttpAnswer, read_fields
from models.oauth.token_response import Evidence, GrantRefused, read_token_answer
from models.paging.page_format import PageAsked, PageFormat
from models.sync.page import parse_page

now = datetime(2026, 1, 2, tzinfo=UTC)
profile = read_profile("breezedoc", {}, [Path("config/providers")])
documents = next(resource for resource in profile.resources if resource.name == "document")
largest = 4 << 20
emoji = "\U0001f600"


def repeat(unit: str) -> Callable[[int], str]:
    return lambda size: f"[{','.join([unit] * (size // (len(unit.encode()) + 1)))}]"


values: dict[str, Callable[[int], str]] = {
    "empty lists": repeat("[]"),
    "empty objects": repeat("{}"),
    "fractions": repeat("1.5"),
    "numbers that are long when written out": repeat("1e400"),
    "whole numbers": repeat("1000"),
    "long whole numbers": repeat("9" * 4000),
    "short texts": repeat('"ab"'),
    "objects of one field": repeat('{"a":0}'),
    "objects of one fraction": repeat('{"a":1.5}'),
    "lists in lists": repeat("[[[[]]]]"),
    "many names": lambda size: "{" + ",".join(f'"{n:x}":0' for n in range(size // 12)) + "}",
    "one text": lambda size: f'"{"a" * size}"',
    "one text with a Cyrillic letter": lambda size: f'"{"a" * size}ж"',
    "one text with an emoji": lambda size: f'"{"a" * size}{emoji}"',
    "one text with an escaped emoji": lambda size: '"' + "a" * size + "\\ud83d\\ude00" + '"',
    "escaped letters": lambda size: '"' + "\\u0416" * (size // 6) + '"',
    "texts with an emoji each": repeat(f'"{"a" * 40}{emoji}"'),
    "a document of people": repeat(json.dumps({"name": "Ada", "email": "ada@example.org", "n": 7, "w": 1.25, "h": 22})),
}


def page_of(value: str) -> bytes:
    return f'{{"current_page":1,"last_page":1,"total":1,"data":[{{"id":1,"value":{value}}}]}}'.encode()


def read(body: bytes) -> tuple[object, int]:
    """Return the outcome of a page, and the most bytes that were in use while it was read."""
    tracemalloc.start()
    try:
        outcome = read_api_answer(HttpAnswer(200, {}, body), PageFormat(paging="laravel"), PageAsked(), now)
        if isinstance(outcome, Page):
            parse_page(outcome, documents, profile)
        return outcome, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def largest_page(case: str) -> bytes:
    """Return the largest page of this kind that is read at all."""
    size = largest
    while (estimate := exact_json.estimate_memory(page_of(values[case](size)).decode())) > page_memory:
        size = int(size * min(0.98, page_memory / estimate))
    return page_of(values[case](size))


@pytest.mark.parametrize("case", [case for case in values if case != "a document of people"])
def test_a_page_takes_no_more_memory_than_a_thread_has_for_it(case: str) -> None:
    outcome, used = read(largest_page(case))
    assert isinstance(outcome, Page)
    assert used <= page_memory


def test_a_page_of_700_kilobytes_as_providers_send_it_is_read() -> None:
    assert len(largest_page("a document of people")) > 700_000


@pytest.mark.parametrize("case", values)
def test_what_a_byte_may_cost_at_most_bounds_every_text(case: str) -> None:
    page = page_of(values[case](5_000))
    assert exact_json.estimate_memory(page.decode()) <= len(page) * exact_json.bytes_per_byte


def test_a_page_that_would_take_more_is_a_failure_with_its_reason() -> None:
    outcome, used = read(page_of(values["fractions"](largest)))
    assert outcome == Failed("the body has more values or text than fit into memory")
    assert used < 3 * largest


@pytest.mark.parametrize("case", [case for case in values if "emoji" not in case])
def test_an_answer_with_tokens_takes_less(case: str) -> None:
    body = f'{{"access_token":"a","more":{values[case](1 << 20)}}}'.encode()
    tracemalloc.start()
    read_fields(HttpAnswer(200, {}, body))
    _, used = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used <= http.fields_memory


def test_a_form_of_a_hundred_thousand_fields_is_none() -> None:
    form = HttpAnswer(200, {"content-type": "application/x-www-form-urlencoded"}, b"access_token=a&" + b"a=b&" * 10**5)
    assert read_fields(form) is None


class Counting:
    """A stand-in for `re` in `redact` that counts the characters given to it."""

    def __init__(self) -> None:
        self.searched = 0

    def finditer(self, pattern: str, text: str) -> object:
        self.searched += len(text)
        return re.finditer(pattern, text)

    escape = staticmethod(re.escape)


def test_an_echo_is_cut_before_it_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    monkeypatch.setattr(redact, "re", counting)
    token = "def50200" + "0a1b2c3d" * 100
    echo = json.dumps({"error": "invalid_grant", "error_description": (token[:-1] + " ") * 1200}).encode()
    outcome = read_token_answer("refresh_token", HttpAnswer(400, {}, echo), now, [token, "a-client-secret"])
    assert isinstance(outcome, GrantRefused)
    assert 0 < counting.searched < 100_000


secret = "abc+d/e f=%!" * 30
cut: dict[str, tuple[str, list[str]]] = {
    "at the end of what is read": ("x" * (redact.read_most - 5) + secret + "tail" * 9000, [secret]),
    "behind marks that make it shorter": (secret * 200, [secret]),
    "behind characters that no one sees": ("\x00" * 3000 + "x" * 500 + secret + "y" * 9000, [secret]),
    "with such characters within": ("x" * 3990 + "\x00".join(secret) + "y" * 20_000, [secret]),
    "longer than all that is read": ("x" * 200 + "s3cr3t" * 100_000, ["s3cr3t" * 100_000]),
    "its beginning alone": ("no such token: " + secret[:250], [secret]),
    "two that overlap": ("xyzABCDEFGH", ["ABCDEFGH", "xyzABC"]),
    "one that overlaps itself": ("abcabcabcabc", ["abcabcabc"]),
}


@pytest.mark.parametrize("case", cut)
def test_no_part_of_a_secret_is_left_by_the_cut(case: str) -> None:
    text, secrets = cut[case]
    shown = excerpt(text, secrets, 300)
    assert len(shown) <= 300
    for each in secrets:
        parts = {each[at : at + 8] for at in range(min(len(each), 5000) - 7)}
        assert [part for part in parts if part in shown] == []


def test_an_error_in_one_of_many_objects_is_not_searched_for_ever() -> None:
    body = json.dumps({"errors": [{"type": "x"}] * 20_000 + [{"error": "invalid_grant"}]}).encode()
    outcome = read_token_answer("refresh_token", HttpAnswer(400, {}, body), now)
    assert not isinstance(outcome, GrantRefused)
    short = json.dumps({"errors": [{"type": "x"}] * 9 + [{"error": "invalid_grant"}]}).encode()
    outcome = read_token_answer("refresh_token", HttpAnswer(400, {}, short), now)
    assert outcome == GrantRefused(Evidence(status=400, error="invalid_grant"), expired=False)


def test_equal_values_have_one_form_with_and_without_such_numbers() -> None:
    one = exact_json.loads('{"b":[1.0,{"d":null,"c":[]}],"a":{}}')
    other = {"a": {}, "b": [1, {"c": [], "d": None}]}
    assert exact_json.canonical(one) == exact_json.canonical(other) == '{"a":{},"b":[1,{"c":[],"d":null}]}'
