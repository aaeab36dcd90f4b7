"""The stand-alone consumers as processes: started, and read by what they print."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.processes import CHECKOUT, Program
from tests.servers import plain_environment

EXAMPLES = CHECKOUT / "docs/examples"


@dataclass(frozen=True, slots=True)
class Language:
    """How the consumer of one language is started in a directory where its memory is to be."""

    command: tuple[str, ...]

    @classmethod
    def python(cls) -> Self:
        return cls((sys.executable, "-W", "error", str(EXAMPLES / "python/consumer.py")))

    @classmethod
    def node(cls, node: str) -> Self:
        return cls((node, str(EXAMPLES / "node/consumer.mjs")))


@dataclass
class Consumers:
    """Consumers of one group, which share a memory in `directory`."""

    language: Language
    redis_url: str
    directory: Path
    started: list[Program] = field(default_factory=list)

    def start(self, output: int | None = None) -> Program:
        environment = {
            **plain_environment(),
            "REDIS_URL": self.redis_url,
            "GROUP": "readers",
            "CLAIM_AFTER": "0.5",
            "HOME": str(self.directory),
        }
        name = f"consumer-{len(self.started) + 1}"
        program = Program(name, (), environment, self.directory, self.language.command, output)
        self.started.append(program)
        return program

    def kill(self) -> None:
        for program in self.started:
            program.kill()


def printed(program: Program) -> list[Mapping[str, Any]]:
    """The events that a consumer has printed, and after its end, last of all, its counts."""
    return read_lines(program.log.read_bytes())


def read_lines(text: bytes) -> list[Mapping[str, Any]]:
    """The whole lines of JSON; what else was logged between them is for people."""
    lines = text.splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n")]


def ids(lines: list[Mapping[str, Any]], connection_id: str) -> list[str]:
    """The ids of the events about a connection, in the order in which they were printed."""
    return [line["id"] for line in lines if line.get("subject") == connection_id]


def drain(descriptor: int) -> bytes:
    """All that is left in a pipe whose writers are gone."""
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()
