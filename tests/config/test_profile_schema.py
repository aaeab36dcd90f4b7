"""The schema for editors and the reader agree: both take what is shipped, and both refuse what is wrong."""

import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config.profiles import ProfileError, build_provider, profile_directories, read_profile
from config.profiles.fields import Rule, column_rules, hook_rules, provider_rules, resource_rules, view_rules
from config.profiles.schema import make_schema
from models.hook import Hook
from models.provider import Column, Provider, Resource, View
from tests.config.test_profiles import faulty, minimal

shipped = sorted(path.stem for path in profile_directories()[1].glob("*.toml"))


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = make_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def faults(profile: Mapping[str, Any]) -> list[str]:
    return [fault.message for fault in validator().iter_errors(json.loads(json.dumps(profile)))]


@pytest.mark.parametrize("name", shipped)
def test_both_take_each_profile_that_is_shipped(name: str) -> None:
    directory = profile_directories()[1]
    text = (directory / f"{name}.toml").read_text()
    assert faults(tomllib.loads(text)) == []
    assert read_profile(name, {}, [directory]).name == name
    assert text.startswith("#:schema ../../docs/profile.schema.json\n")


def test_both_take_a_profile_with_nothing_but_what_is_needed() -> None:
    assert faults(minimal) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        each
        for each in faulty
        if each[1] not in ("resources", "views", "headers", "views[0].resource")
        and not each[1].endswith(".parent")
        and not (each[1] == "views[0].columns" and len(each[0]["views"][0]["columns"]) == 2)
    ],
    ids=repr,
)
def test_both_refuse_what_is_wrong(change: dict[str, Any], where: str) -> None:
    assert faults(minimal | change) != [], f"the reader refuses it because of {where}"


PLAIN = r"""
x id a.b a..b a\.b [] [-1].id [-1]. data é ٣ count time Bearer basic token json page link laravel harmless sha1 base64
https://o.example/ https://o.example:8443/a https://o.example:99999/a https://o.example/a?x=1 https://o.example/a#
https:///a https://u@o.example/
https://o.example/ä HTTPS://O.EXAMPLE ftp://o.example/ http://o.example/ http://LOCALHOST/ http://127.0.0.1:1/
http://[::1]/ http://localhost.o.example/ true yes 1 1.5 1_000 inf 1h 90 0s 0 1w -1h PT1H 01:00:00
/me /me/ /teams/{team}/x /a?b a=b {body} {timestamp}{body} X-Sig files[].url files[].*?
"""
VALUES: tuple[Any, ...] = (
    *PLAIN.split(),
    *("", " ", "a b", "a  b", " 1 ", "1 h", "x\n", "\0", "a" * 31, "https://o.example/a b", "X Sig"),
    *(0, 1, -1, 2, 30, 31, 0.5, 1.0, 1.5, 10**9, 10**9 + 1, True, False, [], {}, [{}], [{"name": "x"}]),
    *(["a"], ["a..b"], [1], ["https://o.example/x"], {"a": "b"}, {"a": 1}, {"a": "invalid_grant"}, {"": "x"}),
    *({"X-Y": "a"}, {"X-Y": ""}, {"Cookie": "a"}, {"state": "x"}),
)
BEYOND = ("times", "expected the name of a resource", "one answer names the account")
"""Words of faults that compare one value with another, which no schema can."""


def tables_of(profile: dict[str, Any]) -> Iterator[tuple[Mapping[str, Rule], dict[str, Any]]]:
    yield provider_rules, profile
    yield hook_rules, profile["webhook"]
    for one in profile["resources"]:
        yield resource_rules, one
    for view in profile["views"]:
        yield view_rules, view
        yield from ((column_rules, column) for column in view["columns"])


def change(draw: random.Random, profile: dict[str, Any]) -> None:
    """Give one field of one of its tables another value, or take it away."""
    rules, table = draw.choice([*tables_of(profile)])
    field = draw.choice([*rules])
    if draw.random() < 0.1:
        table.pop(field, None)
    else:
        table[field] = deepcopy(draw.choice(VALUES))


def test_both_say_the_same_of_a_profile_that_was_changed_at_random() -> None:
    draw, verdicts = random.Random(15), set[bool]()
    good = minimal | {"webhook": {"account": "id", "signature_header": "X-Sig"}}
    for _ in range(800):
        profile = deepcopy(good)
        change(draw, profile)
        if draw.random() < 0.4:
            with suppress(AttributeError, KeyError, TypeError, IndexError):  # the first change took the tables away
                change(draw, profile)
        found: list[str] = []
        try:
            build_provider("other", "other.toml", deepcopy(profile), {})
        except ProfileError as refused:
            found = refused.problems
        if found and all(any(words in problem for words in BEYOND) for problem in found):
            continue
        verdicts.add(not found)
        assert validator().is_valid(profile) is not bool(found), (profile, found)
    assert verdicts == {True, False}


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        (provider_rules, Provider),
        (resource_rules, Resource),
        (view_rules, View),
        (column_rules, Column),
        (hook_rules, Hook),
    ],
)
def test_each_field_that_a_profile_may_have_is_described(rules: Mapping[str, Rule], kind: type[Any]) -> None:
    given = {"name", "path_prefix"} if kind is Provider else set()
    assert rules.keys() == {field.name for field in fields(kind)} - given
    assert all(rule.text.endswith(".") for rule in rules.values())


def test_the_schema_of_the_documents_is_the_one_that_is_made() -> None:
    assert json.loads(Path("docs/profile.schema.json").read_text()) == make_schema()
