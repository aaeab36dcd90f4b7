"""What an API answer says is read exactly: numbers with every digit, ids that stay apart, and what is no answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import exact_json
from models.api_response import Failed, Forbidden, Page, read_api_answer
from models.crypto.secrets import Sealed, Secret
from models.exact_json import Number
from models.http import HttpAnswer
from models.paging.page_format import PageAsked, PageFormat
from models.sync.records import Known, compare, hash_content, read_item
from models.sync.records import _clean as clean
from tests.unit.test_page import flat, now, read

numbers = (
    *("1.25", "-0.5", "0.000001", "0.0000001", "1E+23", "1e23", "1.50", "-0.0"),
    *("1234567890.12345678901", "12345678901234567890.0", "98765432109876543210"),
)


@pytest.mark.parametrize("text", numbers)
def test_a_number_is_written_as_it_came(text: str) -> None:
    assert exact_json.dumps(exact_json.loads(f'{{"n": [{text}]}}')) in (f'{{"n": [{text}]}}', f'{{"n":[{text}]}}')


def test_a_page_keeps_the_digits_of_its_records() -> None:
    body = b'{"current_page": 1, "last_page": 1, "total": 1, "data": [{"id": 1, "n": 1234567890.12345678901}]}'
    page = read_api_answer(HttpAnswer(200, {}, body), PageFormat(paging="laravel"), PageAsked(), now)
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


def test_the_hash_of_a_record_stays_what_is_stored() -> None:
    data = '{"b": [1.25, -0.5, 1e23, 1.50, 0.0000001, -0.0, 12345678901234567890.10], "a": {"c": null, "é": "é"}}'
    stored = "953aab1c89f1c68e2f1d4c27839190f4e8f4e63a1b290c93eec0b0095747f85b"
    assert hash_content(exact_json.loads(data)) == stored


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


def json_texts() -> st.SearchStrategy[str]:
    """JSON with every kind of number, text and nesting, written as a server may write it."""
    numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    texts = st.text(max_size=12).map(json.dumps) | st.text(max_size=12).map(
        lambda text: json.dumps(text, ensure_ascii=False)
    )
    odd = st.sampled_from(
        [
            '"\\ud800"',
            '"\\u0000"',
            "NaN",
            "-Infinity",
            "9" * 4001,
            "-" + "9" * 4300,
            "9" * 4301,
            "1e5000",
            '"\\udc00x"',
            "null",
            "true",
        ]
    )
    return st.recursive(
        numbers | texts | odd,
        lambda inner: (
            st.lists(inner, max_size=4).map(lambda parts: f"[{' ,'.join(parts)}]")
            | st.lists(st.tuples(texts, inner), max_size=4).map(
                lambda pairs: "{" + ",".join(f"{name}: {value}" for name, value in pairs) + "}"
            )
        ),
        max_leaves=20,
    )


@given(json_texts())
def test_both_readers_read_the_same(text: str) -> None:
    value, is_clean = exact_json.read(text)
    slowly = json.loads(text, parse_float=exact_json._read_number, parse_int=exact_json._read_integer)
    assert repr(value) == repr(slowly)
    assert not is_clean or repr(clean(value)) == repr(value)


@given(json_texts())
def test_a_value_has_one_canonical_form_however_it_is_made(text: str) -> None:
    value = clean(exact_json.loads(text))
    slowly = "".join(exact_json._write(value, ensure_ascii=False, canonically=True))
    assert exact_json.canonical(value) == slowly
    assert repr(exact_json.loads(exact_json.dumps(value))) == repr(value)


@pytest.mark.parametrize("value", [Secret("s"), Sealed("s"), {"a": [Secret("s")]}, object()])
def test_what_is_no_json_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        exact_json.dumps(value)


@pytest.mark.parametrize("digits", [4000, 4001, 4300, 4301])
def test_a_long_integer_is_read_alike_whatever_stands_beside_it(digits: int) -> None:
    number = "-" + "9" * digits
    clean_page, odd_page = (exact_json.loads(f'[{number}, "{beside}"]') for beside in ("x", "\\ud800"))
    assert isinstance(clean_page, list)
    assert isinstance(odd_page, list)
    assert clean_page[0] == odd_page[0]
    assert (clean_page[0] is None) == (digits > 4300)
