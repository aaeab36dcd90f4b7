"""The operator's listener, which is quiet when no one asks, stops at once."""

import socket
from threading import Thread

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from tests.servers import wait_until
from worker.web.listener import Listener, listen_at, serving_beside


class Patient(Listener):
    seconds = 600


def test_it_stops_although_it_is_not_to_wake_up_for_long() -> None:
    server = Patient(uvicorn.Config(Starlette(), log_config=None, lifespan="off"))
    thread = Thread(target=server.run, kwargs={"sockets": [listen_at("127.0.0.1", 0)]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "it listens")
    server.stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("times", [1, 2])
def test_it_stops_before_it_has_begun_and_after_it_has_ended(times: int) -> None:
    server = Patient(uvicorn.Config(Starlette(), log_config=None, lifespan="off"))
    for _ in range(times):
        server.stop()
        server.run([listen_at("127.0.0.1", 0)])
    server.stop()


def test_it_answers_with_a_date_while_the_block_runs_and_no_longer() -> None:
    listener = listen_at("127.0.0.1", 0)
    address = listener.getsockname()
    url = "http://{}:{}/".format(*address)
    with serving_beside(Starlette(), listener):
        answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, "date" in answer.headers) == (404, True)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
