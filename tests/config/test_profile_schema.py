"""The schema for editors and the reader agree: both take what is shipped, and both refuse what is wrong."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config.profiles import profile_directories, read_profile
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
