"""What the documents say of events, commands and jobs is what the code does."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft7Validator, ValidationError

from models.messaging.messages import QUEUES
from models.messaging.schemas import fact_types, schema_of, summaries
from tests.event_assertions import assert_described

docs = Path(__file__).parents[1] / "docs"


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", docs / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def test_the_documents_are_what_the_code_says() -> None:
    ran = subprocess.run([sys.executable, docs / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_every_type_is_summed_up_and_shown() -> None:
    assert set(fact_types()) == set(summaries) == set(generate.examples)


@pytest.mark.parametrize("type_", sorted(fact_types()))
def test_an_example_is_a_cloud_event_that_its_schema_describes(type_: str) -> None:
    document = generate.example_of(type_).document
    event = JSONFormat().read(None, document)
    assert event.get_type() == f"dev.breezesync.{type_}"
    assert_described(type_, document)


def variants_of(value: Any) -> Iterator[Any]:
    """Yield values that differ from this one in one place, most of which no schema accepts."""
    yield from ("", "x", "2", "/breezesync/x", 0, -1, 1.5, True, None, [], {})
    if isinstance(value, dict):
        yield from ({key: value[key] for key in value if key != left_out} for left_out in value)
        yield from (value | {key: other} for key, part in value.items() for other in variants_of(part))
    if isinstance(value, list):
        yield from ([*value, other] for other in variants_of(value[0] if value else ""))


@pytest.mark.parametrize("type_", sorted(fact_types()))
def test_an_event_is_accepted_if_and_only_if_its_own_validation_accepts_it(type_: str) -> None:
    event = json.loads(generate.example_of(type_).document)
    validator = Draft7Validator(schema_of(type_, strict=True))
    for variant in variants_of(event["data"]):
        changed = event | {"data": variant}
        if validator.is_valid(changed):
            assert_described(type_, json.dumps(changed))
        else:
            with pytest.raises(AssertionError):
                assert_described(type_, json.dumps(changed))


@pytest.mark.parametrize("type_", sorted(fact_types()))
def test_a_schema_is_a_schema_and_lets_a_reader_meet_what_was_added_later(type_: str) -> None:
    Draft7Validator.check_schema(schema_of(type_))
    later = json.loads(generate.example_of(type_).document)
    later["data"]["added_later"] = later["addedlater"] = "x"
    Draft7Validator(schema_of(type_)).validate(later)
    with pytest.raises(AssertionError, match="added"):
        assert_described(type_, json.dumps(later))


@pytest.mark.parametrize("type_", sorted(fact_types()))
def test_a_schema_misses_each_field_that_is_not_there(type_: str) -> None:
    for name in schema_of(type_)["properties"]["data"]["required"]:
        event = json.loads(generate.example_of(type_).document)
        del event["data"][name]
        with pytest.raises(ValidationError, match=name):
            Draft7Validator(schema_of(type_)).validate(event)


def test_every_message_stands_in_a_channel_and_every_queue_is_one() -> None:
    document = yaml.safe_load((docs / "asyncapi.yaml").read_text(encoding="utf-8"))
    in_channels = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert in_channels == set(document["components"]["messages"])
    queues = {
        c["address"].removeprefix("dramatiq:") for name, c in document["channels"].items() if name.startswith("queue.")
    }
    assert queues == set(QUEUES.values())
