"""Which licences and vulnerabilities are refused, and that the production image has no part of sandbox or tests."""

import re
from pathlib import Path

import pytest

from tests.supply_chain import (
    Package,
    count_unknown,
    find_surprises,
    find_vulnerable,
    is_permissive,
    read_accepted,
    read_packages,
)

licences = {
    "MIT": True,
    "MIT License": True,
    "MIT AND PSF-2.0": True,
    "Apache-2.0 OR BSD-3-Clause": True,
    "Apache Software License; MIT License": True,
    "GPL-2.0-only OR MIT": True,
    "MIT AND GPL-3.0-only": False,
    "MIT License; GNU General Public License (GPL)": False,
    "LGPL-3.0-only": False,
    "MPL-2.0": False,
    "AGPL-3.0": False,
    "UNKNOWN": False,
    "": False,
    "MITish": False,
}


@pytest.mark.parametrize("licence", licences)
def test_a_licence_asks_for_a_notice_or_for_more(licence: str) -> None:
    assert is_permissive(licence) is licences[licence]


def test_a_package_with_a_surprising_licence_needs_a_reason() -> None:
    packages = [Package("a", "1", "MIT"), Package("Viral", "1", "GPL-3.0"), Package("odd", "1", "UNKNOWN")]
    assert find_surprises(packages, {"viral": "a reason"}) == [packages[2]]


def test_what_is_installed_has_no_surprises() -> None:
    assert find_surprises(read_packages(), read_accepted("accepted-licences")) == []


report = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "skip_reason": "not found"},
        {
            "name": "c",
            "version": "3",
            "vulns": [
                {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["4"]},
                {"id": "PYSEC-2", "fix_versions": []},
            ],
        },
    ]
}


def test_a_vulnerability_is_named_with_its_remedy_unless_it_was_accepted() -> None:
    assert find_vulnerable(report, {}) == ["c 3: PYSEC-1, fixed in 4", "c 3: PYSEC-2"]
    assert find_vulnerable(report, {"CVE-1": "not reached"}) == ["c 3: PYSEC-2"]
    assert count_unknown(report) == 1


def test_the_production_image_has_neither_sandbox_nor_tests() -> None:
    stages = re.split(r"(?m)^FROM \S+ AS (\w+)$", Path("Dockerfile").read_text("utf-8"))
    by_name = dict(zip(stages[1::2], stages[2::2], strict=True))
    assert list(by_name)[-1] == "production"
    copied = {name: set(re.findall(r"(?m)^COPY (?!--from)(\w+) ", text)) for name, text in by_name.items()}
    assert copied["app"] == {"config", "models", "scheduler", "worker"}
    assert (copied["production"], copied["sandbox"]) == (set(), {"sandbox"})
    assert "FROM app AS production" in Path("Dockerfile").read_text("utf-8")
    assert "tests" not in Path(".dockerignore").read_text("utf-8")


def test_production_installs_no_part_of_the_sandbox() -> None:
    names = re.findall(r"(?m)^([\w.-]+)==", Path("requirements.txt").read_text("utf-8"))
    assert {"httptools", "uvloop", "schemathesis", "pytest"} & set(names) == set()
    assert "uvicorn" in names
