"""Misconfigurations made one by one with real parts: `doctor` finds each, in its own words, with its remedy."""

import json
import re
from contextlib import ExitStack

import pytest

from tests.cli.conftest import Desk
from tests.cli.misconfigurations import MISCONFIGURATIONS, Misconfiguration


def matches(pattern: str, said: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("…")), said, re.DOTALL) is not None


@pytest.mark.parametrize("made", MISCONFIGURATIONS, ids=lambda made: f"{made.subject}: {made.mistake}")
def test_doctor_finds_it(desk: Desk, made: Misconfiguration) -> None:
    with ExitStack() as stack:
        made.arrange(desk, stack)
        result = desk.type("doctor", "--json")
    checks = json.loads(result.stdout)["checks"]
    amiss = [each for each in checks if each["state"] != "ok" and each["check"] == made.check]
    assert any(matches(made.said, each["said"]) and matches(made.remedy, each["remedy"]) for each in amiss), checks


def test_there_are_many_and_no_two_alike() -> None:
    assert len({made.mistake for made in MISCONFIGURATIONS}) == len(MISCONFIGURATIONS) >= 40
