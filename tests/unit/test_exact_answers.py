"""What an API answer says is read exactly: numbers with every digit, ids that stay apart, and what is no answer."""

import json

import pytest

from models import exact_json
from models.api_response import Failed, Forbidden, Page, read_api_answer
from models.exact_json import Number
from models.http import HttpAnswer
from models.sync.records import Known, compare, hash_content, read_item
from tests.unit.test_page import flat, now, read

numbers = ("1234567890.12345678901", "12345678901234567890.0", "1e23", "1.50", "-0.0", "98765432109876543210")


@pytest.mark.parametrize("text", numbers)
def test_a_number_is_written_as_it_came(text: str) -> None:
    assert exact_json.dumps(exact_json.loads(f'{{"n": [{text}]}}')) in (f'{{"n": [{text}]}}', f'{{"n":[{text}]}}')


def test_a_page_keeps_the_digits_of_its_records() -> None:
    body = b'{"current_page": 1, "last_page": 1, "total": 1, "data": [{"id": 1, "n": 1234567890.12345678901}]}'
    page = read_api_answer(HttpAnswer(200, {}, body), "laravel", 1, now)
    assert isinstance(page, Page)
    item = read_item(page.elements[0], "id", ())
    assert item is not None
    assert json.loads(exact_json.dumps(item.data), parse_float=str)["n"] == "1234567890.12345678901"


@pytest.mark.parametrize("pair", [("1", "1.0"), ("1e23", "100000000000000000000000"), ("1.50", "1.5"), ("0", "-0.0")])
def test_equal_numbers_are_no_change(pair: tuple[str, str]) -> None:
    before, after = (read_item({"id": 1, "n": exact_json.loads(text)}, "id", ()) for text in pair)
    assert before is not None
    assert after is not None
    assert compare({"1": Known(before.content_hash, before.data, False)}, [after]) == []


def test_numbers_that_differ_in_their_last_digit_are_a_change() -> None:
    hashes = {hash_content({"n": Number(f"1234567890.1234567890{digit}")}) for digit in range(10)}
    assert len(hashes) == 10


@pytest.mark.parametrize("text", ["1e5000", "1e99999999999999999999", "9" * 5000, "0." + "1" * 5000])
def test_a_number_that_no_database_holds_is_null(text: str) -> None:
    assert exact_json.loads(f"[{text}]") == [None]


@pytest.mark.parametrize(("one", "other"), [("x" * 255 + "a", "x" * 255 + "b"), ("a\0b", "ab"), ("a\ud800b", "ab")])
def test_ids_that_differ_stay_apart(one: str, other: str) -> None:
    items = [read_item({"id": each}, "id", ()) for each in (one, other)]
    ids = [item.external_id for item in items if item is not None]
    assert len(set(ids)) == 2
    assert all(len(each) <= 255 for each in ids)


def test_an_id_of_255_characters_is_kept_as_it_came() -> None:
    item = read_item({"id": "x" * 255}, "id", ())
    assert item is not None
    assert item.external_id == "x" * 255


def test_a_filtered_collection_is_a_page() -> None:
    page = read(flat | {"data": {"10": {"id": 3}, "2": {"id": 1}}, "total": "6"}, "laravel")
    assert page == Page(({"id": 1}, {"id": 3}), 2, 3, 6)


def test_only_the_api_s_own_403_is_about_the_plan() -> None:
    assert read({"message": "upgrade"}, "laravel", status=403) == Forbidden()
    assert read(b"", "laravel", status=403) == Forbidden()
    for page, headers in ((b"\n<!doctype html>", {}), (b"Blocked", {"content_type": "text/html; charset=utf-8"})):
        assert isinstance(read(page, "laravel", 2, 403, **headers), Failed)
