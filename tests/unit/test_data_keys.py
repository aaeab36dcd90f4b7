"""Data keys behind a request: when one is made, what is remembered, and what happens while the server is away."""

from datetime import timedelta

import pytest

from models.crypto.errors import KeyMissing, KeyNotAtHand, KeyServiceUnavailable
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Place, Vault, new_key
from tests.key_server import KeyServer
from worker.tokens.data_keys import (
    DataKeys,
    fetching_keys,
    longest_kept,
    low_stock,
    most_kept,
    pause,
    refusal_kept,
    stock_size,
)

here = Place("credential", "c1", "refresh_token", 7)
ring = (new_key("k1"),)


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


def vault_of(server: KeyServer) -> Vault:
    return Vault(ring, DataKeys(server, clock=server.clock))


class Flow:
    """A flow whose transaction seals or opens."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.runs = 0

    @fetching_keys
    def seal(self, text: str) -> str:
        self.runs += 1
        self.vault.require()
        return self.vault.seal(Secret(text), here).text


def test_a_flow_runs_again_after_what_it_lacked_was_fetched(server: KeyServer) -> None:
    flow = Flow(vault_of(server))
    assert flow.seal("a").startswith("v1.server.")
    assert (flow.runs, server.requests) == (2, ["wrap"])
    flow.seal("b")
    assert (flow.runs, server.requests) == (3, ["wrap"])


def test_a_flow_without_an_external_key_runs_once() -> None:
    flow = Flow(Vault(ring))
    assert flow.seal("a").startswith("v1.k1.")
    assert flow.runs == 1


def test_nothing_is_sealed_or_opened_by_a_request(server: KeyServer) -> None:
    with pytest.raises(KeyNotAtHand):
        vault_of(server).seal(Secret("a"), here)
    text = Flow(vault_of(server)).seal("a")
    with pytest.raises(KeyNotAtHand) as missing:
        vault_of(server).open(Sealed(text), here)
    assert server.requests == ["wrap"]
    assert [each.key_id for each in missing.value.wanted] == ["server"]


def test_each_text_has_a_data_key_of_its_own_until_the_stock_is_used_up(server: KeyServer) -> None:
    vault = vault_of(server)
    vault.fetch()
    server.is_away = True
    used = [vault.seal(Secret("a"), here).text.split(".")[2] for _ in range(stock_size + 3)]
    assert len(set(used)) == stock_size
    assert used[-4:] == used[-1:] * 4, "a text that must be saved now is sealed by the last one again"


def test_a_token_leaves_only_if_there_are_data_keys_for_what_it_brings(server: KeyServer) -> None:
    vault = vault_of(server)
    with pytest.raises(KeyNotAtHand):
        vault.require()
    vault.fetch()
    for _ in range(stock_size - low_stock + 1):
        vault.require()
        vault.seal(Secret("a"), here)
    with pytest.raises(KeyNotAtHand):
        vault.require()
    server.is_away = True
    with pytest.raises(KeyServiceUnavailable):
        vault.fetch()


def test_an_old_stock_is_replaced_since_the_master_key_may_have_been_rotated(server: KeyServer) -> None:
    vault = vault_of(server)
    vault.fetch()
    server.time += longest_kept.total_seconds() + 1
    with pytest.raises(KeyNotAtHand):
        vault.require()
    vault.seal(Secret("a"), here)
    server.time += longest_kept.total_seconds()
    with pytest.raises(KeyNotAtHand):
        vault.seal(Secret("a"), here)


@pytest.mark.parametrize(
    ("refuses", "kept"), [(False, longest_kept), (True, refusal_kept)], ids=["a data key", "a refusal"]
)
def test_what_was_fetched_is_remembered_for_minutes(server: KeyServer, refuses: bool, kept: timedelta) -> None:
    sealed = Flow(vault_of(server)).vault
    sealed.fetch()
    text, server.refuses = sealed.seal(Secret("a"), here), refuses
    vault = vault_of(server)

    def opens() -> bool:
        try:
            vault.open(text, here)
        except KeyMissing:
            return False
        return True

    vault.fetch_for([text])
    assert opens() is not refuses
    server.time += kept.total_seconds() + 1
    with pytest.raises(KeyNotAtHand):
        opens()


def test_no_more_than_so_many_are_remembered(server: KeyServer) -> None:
    keys = DataKeys(server, clock=server.clock)
    wrapped = server.ring.wrap([bytes([n % 256, n // 256]) * 16 for n in range(most_kept + 10)])
    keys.fetch(wrapped)
    with pytest.raises(KeyNotAtHand):
        keys.find(wrapped[9])
    assert keys.find(wrapped[10])


def test_threads_do_not_wait_one_after_the_other_for_a_server_that_is_away(server: KeyServer) -> None:
    vault, server.is_away = vault_of(server), True
    for _ in range(5):
        with pytest.raises(KeyServiceUnavailable):
            vault.fetch()
    assert server.requests == ["wrap"]
    server.time += pause.total_seconds() + 1
    server.is_away = False
    vault.fetch()
    assert server.requests == ["wrap", "wrap"]
