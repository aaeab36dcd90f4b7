"""What breezesync is made of: known vulnerabilities, licences, and a bill of materials. `make audit licences sbom`."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIREMENTS = "requirements-dev.txt"
"""All that is installed anywhere: what production installs is a part of it, in the same versions."""
AUDIT_SECONDS = 120

permissive = (
    r"0BSD|MIT(-0| License)?|ISC( License \(ISCL\))?|PSF-2\.0|Python Software Foundation License|DFSG approved"
    r"|Apache(-2\.0| Software License| License 2\.0)|BSD( License|-[23]-Clause)|3-Clause BSD License|Unlicense|CC0-1\.0"
    r"|Zlib|BlueOak-1\.0\.0|Python-2\.0|HPND|The Unlicense \(Unlicense\)"
)


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package and the licence that it declares."""

    name: str
    version: str
    licence: str


def find_vulnerable(report: Mapping[str, Any], accepted: Mapping[str, str]) -> list[str]:
    """Return a line for each known vulnerability in pip-audit's report that no one has accepted with a reason."""
    return [
        f"{package['name']} {package['version']}: {known['id']}"
        + (f", fixed in {', '.join(known['fix_versions'])}" if known.get("fix_versions") else "")
        for package in report["dependencies"]
        for known in package.get("vulns", ())
        if not accepted.keys() & {known["id"], *known.get("aliases", ())}
    ]


def count_unknown(report: Mapping[str, Any]) -> int:
    """Return how many packages the index said nothing about."""
    return sum("skip_reason" in package for package in report["dependencies"])


def find_surprises(packages: Iterable[Package], accepted: Mapping[str, str]) -> list[Package]:
    """Return the packages under a licence that asks for more than a notice, unless it was accepted with a reason.

    Of an expression, one part joined by `OR` has to be permissive, and all parts joined by `AND` or a semicolon.
    """
    return [each for each in packages if not is_permissive(each.licence) and each.name.lower() not in accepted]


def is_permissive(licence: str) -> bool:
    alternatives = licence.split(" OR ")
    return any(
        all(re.fullmatch(permissive, part.strip(" ()")) or re.fullmatch(permissive, part.strip()) for part in parts)
        for parts in (re.split(r" AND |;", alternative) for alternative in alternatives)
    )


def read_accepted(kind: str) -> Mapping[str, str]:
    """Return what `[tool.supply-chain]` accepts, each with its reason."""
    written = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["supply-chain"]
    return {str(name): str(reason) for name, reason in written[kind].items() if reason}


def read_packages() -> list[Package]:
    listed = json.loads(_output("pip-licenses", "--format=json"))
    return [Package(each["Name"], each["Version"], each["License"]) for each in listed]


def audit() -> int:
    """Fail if an index knows a vulnerability of what we pin; if none can be asked, say so and do not fail."""
    options = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--timeout", "15")
    command = [str(_tool("pip-audit")), "--requirement", REQUIREMENTS, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        print("Nothing is known of vulnerabilities: no index answers. Run make audit where the network has one.")
        return 0
    unknown, total = count_unknown(report), len(report["dependencies"])
    vulnerable = find_vulnerable(report, read_accepted("accepted-vulnerabilities"))
    print("".join(f"{line}\n" for line in vulnerable), end="")
    print(f"{total - unknown} of {total} packages are known to the index, {len(vulnerable)} vulnerabilities.")
    if vulnerable:
        print("Take a fixed version (make lock LOCK_FLAGS=--upgrade), or give a reason in pyproject.toml.")
    if unknown == total:
        print("The index that was asked knows none of them. Run make audit where one does.")
    return 1 if vulnerable else 0


def licences() -> int:
    """List every package with its licence; fail if one asks for more than a notice and has no reason."""
    packages, accepted = read_packages(), read_accepted("accepted-licences")
    for package in packages:
        reason = accepted.get(package.name.lower())
        print(f"{package.name:32} {package.version:16} {package.licence}" + (f"  ({reason})" if reason else ""))
    surprises = find_surprises(packages, accepted)
    for package in surprises:
        print(f"{package.name}: {package.licence}: give a reason in pyproject.toml, or do without.", file=sys.stderr)
    return 1 if surprises else 0


def sbom(path: str = "dist/breezesync.cdx.json") -> int:
    """Write a CycloneDX bill of materials of what production installs."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    kind = ("--pyproject", "pyproject.toml", "--mc-type", "application", "--output-reproducible", "--of", "JSON")
    _output("cyclonedx-py", "requirements", "requirements.txt", *kind, "-o", path)
    components = json.loads(Path(path).read_text("utf-8"))["components"]
    print(f"{path}: {len(components)} components")
    return 0


def _output(tool: str, *arguments: str) -> str:
    return subprocess.run([str(_tool(tool)), *arguments], capture_output=True, text=True, check=True).stdout


def _tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    sys.exit({"audit": audit, "licences": licences, "sbom": sbom}[sys.argv[1]](*sys.argv[2:]))
