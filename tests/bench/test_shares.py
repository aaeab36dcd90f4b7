"""The shares of a profile."""

import pytest

from tests.bench.shares import REST, part_of, shares_of

LOOP = "run (uvicorn/main.py:6);run (asyncio/runners.py:1)"


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        pytest.param(f"{LOOP};read (h11/_readers.py:8);match (re.py:1)", "h11", id="what a library calls is its own"),
        pytest.param(f"{LOOP};remove (weakref.py:3)", "uvicorn", id="the innermost part counts"),
        pytest.param("save (worker/tokens/save.py:1);seal (models/crypto/vault.py:2)", "cryptography", id="sealing"),
        pytest.param("lock (models/store/connections.py:1)", "models/store", id="the store is apart"),
        pytest.param("run (threading.py:1)", REST, id="nobody's"),
    ],
)
def test_a_stack_counts_for_the_innermost_part(stack: str, part: str) -> None:
    assert part_of(stack) == part


def test_shares_are_of_all_samples_and_the_largest_comes_first() -> None:
    lines = ["a (h11/a.py:1) 1", "b (worker/web/b.py:1) 2", "c (h11/c.py:1);d (re.py:2) 5"]
    assert shares_of(lines) == [("h11", 0.75), ("worker/web", 0.25)]


def test_a_thread_that_waits_uses_no_cpu() -> None:
    assert shares_of(["a (h11/a.py:1) 1", "a (h11/a.py:1);Condition.wait (threading.py:320) 9"]) == [("h11", 1.0)]
    waits = "ask (worker/queue/waits.py:50);wait (connection.py:9);_PollLikeSelector.select (selectors.py:4)"
    assert shares_of(["a (h11/a.py:1) 1", f"{waits} 9"]) == [("h11", 1.0)]
