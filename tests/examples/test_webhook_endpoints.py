"""The endpoints in docs/examples take what is signed and nothing else, and each event once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest

from models.webhooks.signature import make_secret, sign
from tests.processes import CHECKOUT
from tests.servers import reserved_port, wait_until

examples = CHECKOUT / "docs/examples"
body = '{"id":"e1","type":"dev.breezesync.sync.failed","subject":"c1","sequence":"1"}'


@contextmanager
def running(command: list[str], secret: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with reserved_port() as port:
        url = f"http://127.0.0.1:{port}/"
        environment = {**os.environ, "SECRET": secret}
        process = subprocess.Popen([*command, str(port)], env=environment, stdout=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: answers(url), "the endpoint answers")
            yield url, process
        finally:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.post(url, content=b"", trust_env=False).status_code == 400
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("language", ["python", "node"])
def test_an_endpoint_takes_a_signed_event_once_and_refuses_others(
    language: str, request: pytest.FixtureRequest
) -> None:
    secret = make_secret()
    if language == "node":
        command = [request.getfixturevalue("node"), str(examples / "node/webhook.mjs")]
    else:
        command = [sys.executable, str(examples / "python/webhook.py")]
    headers = dict(sign("e1", body, [make_secret(), secret], datetime.now(UTC)))
    with running(command, secret.reveal()) as (url, process):
        bodies = (body, body, body.replace("c1", "c2"))
        answered = [httpx.post(url, content=each, headers=headers, trust_env=False).status_code for each in bodies]
        process.kill()
        printed = process.communicate()[0]
    assert answered == [204, 204, 400]
    assert printed.splitlines() == ["dev.breezesync.sync.failed c1 1"]
