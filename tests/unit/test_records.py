"""What of a page is new, changed or the same, whatever the provider puts into a record."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sync.records import Changed, Item, Known, compare, hash_content, read_item, without

volatile = ("document_files[].document_file_pages[].*?",)


def item(raw: object, *paths: str) -> Item:
    read = read_item(raw, "id", paths)
    assert read is not None
    return read


def known(before: Item, deleted: bool = False) -> Known:
    return Known(before.content_hash, before.data, deleted)


def fields_changed(before: dict[str, object], after: dict[str, object]) -> tuple[str, ...] | None:
    old, new = item({"id": 1} | before), item({"id": 1} | after)
    changes = compare({"1": known(old)}, [new])
    return changes[0].fields if changes else None


nameless: dict[str, object] = {
    "a text": "document",
    "nothing": None,
    "a list": [{"id": 1}],
    "no id": {"title": "a"},
    "a null id": {"id": None},
    "false for an id": {"id": False},
    "an empty id": {"id": ""},
    "an id that is only NUL": {"id": "\x00"},
    "a fraction for an id": {"id": 1.5},
    "an object for an id": {"id": {"id": 1}},
}


@pytest.mark.parametrize("case", nameless)
def test_what_names_no_record_is_none(case: str) -> None:
    assert read_item(nameless[case], "id", ()) is None


identities: dict[str, tuple[object, str]] = {
    "a number": (7, "7"),
    "a text": ("doc-7", "doc-7"),
    "a large number": (2**70, str(2**70)),
    "a long text": ("x" * 300, "x" * 190 + "~0d4e2ca9e9cbced7a7a5380eb29e1a3783b9b6d0db72de36a1051038e1c1fbc7"),
    "a NUL in it": ("a\x00b", "ab~59b271ae1bbcb1d31d41929817f4b16fb439eb4f31520b5ad1d5ce98920a7138"),
    "half a character in it": ("a\ud800b", "a?b~45e334b6c74ca5db8d8f8fcd1157fb31a2ebc9953e0d8d182e37b6b67e6a1705"),
}


@pytest.mark.parametrize("case", identities)
def test_an_id_is_a_text_that_every_database_holds(case: str) -> None:
    identity, expected = identities[case]
    assert item({"id": identity}).external_id == expected


volatile_paths: dict[str, tuple[tuple[str, ...], object, object]] = {
    "a field": (("url",), {"a": 1, "url": "x"}, {"a": 1}),
    "a field further down": (("file.url",), {"file": {"url": "x", "name": "n"}}, {"file": {"name": "n"}}),
    "in each element": (("files[].url",), {"files": [{"url": 1}, {"n": 2}, "t"]}, {"files": [{}, {"n": 2}, "t"]}),
    "each element itself": (("files[]",), {"files": [1, 2]}, {"files": []}),
    "a list in a list": (("a[].b[].c",), {"a": [{"b": [{"c": 1, "d": 2}]}]}, {"a": [{"b": [{"d": 2}]}]}),
    "a list was promised, an object came": (("a[].b",), {"a": {"b": 1}}, {"a": {"b": 1}}),
    "an object was promised, a list came": (("a.b",), {"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
    "nothing there": (("a.b.c",), {"x": 1}, {"x": 1}),
    "two paths": (("a", "b.c"), {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3}}),
    "queries of every URL below": (
        ("pages[].*?",),
        {"pages": [{"u": "https://s/a?sig=1", "deep": {"v": ["http://s/b?x"]}, "t": "why?"}], "u": "https://s/?q"},
        {"pages": [{"u": "https://s/a", "deep": {"v": ["http://s/b"]}, "t": "why?"}], "u": "https://s/?q"},
    ),
    "queries of every URL": (("*?",), {"u": "https://s/a?sig=1\nb", "n": 1}, {"u": "https://s/a", "n": 1}),
}


@pytest.mark.parametrize("case", volatile_paths)
def test_volatile_paths_take_away_just_what_they_name(case: str) -> None:
    paths, raw, expected = volatile_paths[case]
    assert without(raw, paths) == expected


def document(signature: str, *pages: str) -> dict[str, Any]:
    urls = [{"url": f"https://store.example/{page}.png?X-Signature={signature}"} for page in pages]
    return {"id": 1, "title": "Offer", "document_files": [{"id": 2, "document_file_pages": urls}]}


def test_a_new_signature_is_no_change_and_a_new_page_is_one() -> None:
    before = known(item(document("a", "p1", "p2"), *volatile))
    assert compare({"1": before}, [item(document("b", "p1", "p2"), *volatile)]) == []
    [changed] = compare({"1": before}, [item(document("b", "p1", "p3"), *volatile)])
    assert (changed.kind, changed.fields) == ("updated", ("document_files",))


same: dict[str, tuple[object, object]] = {
    "another order of keys": ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}),
    "a whole number as a fraction": ({"a": 1}, {"a": 1.0}),
    "a large whole number as a fraction": ({"a": 10**17}, {"a": 1e17}),
    "nought and minus nought": ({"a": 0}, {"a": -0.0}),
}
different: dict[str, tuple[object, object]] = {
    "one and true": ({"a": 1}, {"a": True}),
    "one and its text": ({"a": 1}, {"a": "1"}),
    "null and absent": ({"a": None}, {}),
    "an empty list and null": ({"a": []}, {"a": None}),
    "another order of elements": ({"a": [1, 2]}, {"a": [2, 1]}),
}


@pytest.mark.parametrize("case", same)
def test_what_means_the_same_has_one_hash(case: str) -> None:
    left, right = (item({"id": 1} | value) for value in same[case])  # type: ignore[operator]  # dicts all
    assert left.content_hash == right.content_hash


@pytest.mark.parametrize("case", different)
def test_what_differs_has_another_hash(case: str) -> None:
    left, right = different[case]
    assert hash_content(left) != hash_content(right)


changes: dict[str, tuple[dict[str, object], dict[str, object], tuple[str, ...] | None]] = {
    "nothing": ({"a": 1}, {"a": 1}, None),
    "a value": ({"a": 1, "b": 1}, {"a": 2, "b": 1}, ("a",)),
    "two values, in order of name": ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ("a", "b")),
    "a field came": ({}, {"a": None}, ("a",)),
    "a field went": ({"a": None}, {}, ("a",)),
    "null for absent": ({"a": None, "b": 1}, {"b": None}, ("a", "b")),
    "far below": ({"a": {"b": [{"c": 1}]}, "d": 1}, {"a": {"b": [{"c": 2}]}, "d": 1}, ("a",)),
}


@pytest.mark.parametrize("case", changes)
def test_a_change_names_the_fields_that_differ(case: str) -> None:
    before, after, expected = changes[case]
    assert fields_changed(before, after) == expected


def test_a_number_too_large_for_a_fraction_is_not_named_as_changed_by_a_database_that_writes_it_out() -> None:
    before = item({"id": 1, "a": 1e300, "b": 1})
    as_stored = replace(before, data=before.data | {"a": int(1e300)})
    [changed] = compare({"1": known(as_stored)}, [item({"id": 1, "a": 1e300, "b": 2})])
    assert changed.fields == ("b",)


def test_a_new_record_names_all_of_its_fields_and_so_does_one_that_is_back() -> None:
    one = item({"id": 1, "title": "a"})
    assert compare({}, [one]) == [Changed(one, "created", ("id", "title"))]
    assert compare({"1": known(one, deleted=True)}, [one]) == [Changed(one, "created", ("id", "title"))]


def test_of_an_id_given_twice_in_a_page_the_later_counts() -> None:
    first, second = item({"id": 1, "a": 1}), item({"id": 1, "a": 2})
    assert [changed.item for changed in compare({}, [first, second])] == [second]
    assert compare({"1": known(second)}, [first, second]) == []


unholdable: dict[str, tuple[object, object]] = {
    "NUL in a text": ("a\x00b", "ab"),
    "NUL in a key": ({"a\x00": 1}, {"a": 1}),
    "half a character": ("a\ud83d", "a?"),
    "not a number": (float("nan"), None),
    "without end": ([float("inf"), float("-inf")], [None, None]),
}


@pytest.mark.parametrize("case", unholdable)
def test_what_no_database_can_hold_is_made_holdable(case: str) -> None:
    raw, expected = unholdable[case]
    assert item({"id": 1, "value": raw}).data["value"] == expected


texts = st.text(st.characters(), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
records = st.lists(
    st.tuples(st.integers(1, 5), st.dictionaries(st.sampled_from("abc"), values)).map(
        lambda pair: {**pair[1], "id": pair[0]}
    ),
    max_size=8,
)


def held_after(before: dict[str, Known], written: list[Changed]) -> dict[str, Known]:
    return before | {changed.item.external_id: known(changed.item) for changed in written}


@given(records, records)
def test_what_was_written_is_unchanged_when_it_is_read_again(first: list[object], second: list[object]) -> None:
    held: dict[str, Known] = {}
    for page in (first, second):
        items = [item(raw) for raw in page]
        held = held_after(held, compare(held, items))
        assert compare(held, items) == []


@given(records, records)
def test_an_update_names_at_least_one_field(first: list[object], second: list[object]) -> None:
    held = held_after({}, compare({}, [item(raw) for raw in first]))
    for changed in compare(held, [item(raw) for raw in second]):
        assert changed.fields, changed
