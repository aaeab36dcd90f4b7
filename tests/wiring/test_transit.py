"""The transit engine of a real OpenBao, which has HashiCorp Vault's API, as the master key."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.crypto.errors import KeyServiceUnavailable, SealBroken
from models.crypto.rotation import reseal
from models.crypto.sealed_text import Wrapped, prefix_of
from models.crypto.secrets import Sealed, Secret
from models.crypto.transit_settings import TransitSettings
from models.crypto.vault import Place, Vault, new_key
from tests.openbao import OpenBao
from tests.servers import reserved_port
from worker.tokens.data_keys import DataKeys
from worker.tokens.transit import Transit, context

OpenTransit = Callable[..., Transit]
here = Place("credential", "c1", "refresh_token", 7)
ring = (new_key("k1"),)


@pytest.fixture
def open_transit() -> Iterator[OpenTransit]:
    """Return one that is closed when the test ends."""
    with ExitStack() as stack:

        def open_one(settings: TransitSettings, transport: httpx.BaseTransport | None = None) -> Transit:
            transit = Transit(settings, transport)
            stack.callback(transit.close)
            return transit

        yield open_one


@pytest.fixture
def vault_by(open_transit: OpenTransit) -> Callable[..., Vault]:
    def make(settings: TransitSettings, wraps: bool = True) -> Vault:
        vault = Vault(ring, DataKeys(open_transit(settings), wraps=wraps))
        vault.fetch()
        return vault

    return make


@pytest.mark.parametrize("derived", [True, False])
def test_what_it_wraps_it_unwraps(openbao: OpenBao, derived: bool, open_transit: OpenTransit) -> None:
    transit = open_transit(openbao.new_key(derived=derived))
    materials = [bytes([n]) * 32 for n in range(3)]
    wrapped = transit.wrap(materials)
    assert {each.key_id for each in wrapped} == {f"{transit.id}:v1"}
    assert transit.unwrap(wrapped) == materials
    assert transit.unwrap([]) == []


def test_one_that_does_not_open_keeps_no_other_closed(openbao: OpenBao, open_transit: OpenTransit) -> None:
    transit = open_transit(openbao.new_key())
    [good] = transit.wrap([b"x" * 32])
    bad = [Wrapped(good.key_id, "AAAA" * 20), Wrapped(f"{transit.id}:v9", good.text), Wrapped(good.key_id, "AA")]
    assert transit.unwrap([*bad, good]) == [None, None, None, b"x" * 32]
    assert [each is None for each in transit.rewrap([*bad, good])] == [True, True, True, False]


def test_a_rotated_master_key_wraps_again_without_showing_a_data_key(
    openbao: OpenBao, vault_by: Callable[..., Vault]
) -> None:
    settings = openbao.new_key()
    vault = vault_by(settings)
    sealed = vault.seal(Secret("a"), here)
    openbao.rotate(settings.key)
    later = vault_by(settings)
    [moved] = reseal(later, [(sealed, here)])
    assert isinstance(moved, Sealed)
    assert (prefix_of(sealed), prefix_of(moved)) == (f"v1.vault:{settings.key}:v1.", f"v1.vault:{settings.key}:v2.")
    later.fetch_for([moved])
    assert later.open(moved, here) == Secret("a")
    with pytest.raises(SealBroken):
        later.open(moved, replace(here, generation=6))


def test_secrets_move_from_the_ring_to_the_vault_and_to_another_of_its_keys_and_back(
    openbao: OpenBao, vault_by: Callable[..., Vault]
) -> None:
    first = openbao.new_key()
    second = openbao.new_key()
    policy = f'path "transit/+/{first.key}" {{ capabilities = ["update"] }}'
    openbao.ask("POST", f"sys/policies/acl/{second.key}-more", policy=policy)
    token = openbao.ask("POST", "auth/token/create", policies=[second.key, f"{second.key}-more"])
    second = replace(second, token=Secret(token["auth"]["client_token"]))
    steps = [vault_by(first), vault_by(second), vault_by(replace(second, key=None), wraps=False)]
    sealed: Any = Vault(ring).seal(Secret("a"), here)
    seen = []
    for vault in steps:
        [sealed] = reseal(vault, [(sealed, here)])
        vault.fetch_for([sealed])
        assert vault.open(sealed, here) == Secret("a")
        seen.append(prefix_of(sealed))
    assert seen == [f"v1.vault:{first.key}:v1.", f"v1.vault:{second.key}:v1.", "v1.k1."]


troubles: dict[str, tuple[Callable[[TransitSettings], TransitSettings], int]] = {
    "a wrong token": (lambda s: replace(s, token=Secret("wrong")), 403),
    "a key that is not there": (lambda s: replace(s, key="nothing"), 403),
    "an engine that is not there": (lambda s: replace(s, mount="nothing"), 403),
    "a namespace that is not there": (lambda s: replace(s, namespace="nothing"), 404),
}


@pytest.mark.parametrize("case", troubles)
def test_trouble_is_transient_and_says_what_the_server_said(
    openbao: OpenBao, case: str, open_transit: OpenTransit
) -> None:
    change, status = troubles[case]
    transit = open_transit(change(openbao.new_key()))
    with pytest.raises(KeyServiceUnavailable) as trouble:
        transit.wrap([b"x" * 32])
    assert trouble.value.status == status
    assert "wrong" not in str(trouble.value)


def test_a_server_that_does_not_answer_is_transient(open_transit: OpenTransit) -> None:
    with reserved_port() as port:
        transit = open_transit(TransitSettings(address=f"http://127.0.0.1:{port}", token=Secret("t"), key="k"))
        with pytest.raises(KeyServiceUnavailable, match="does not answer") as trouble:
            transit.wrap([b"x" * 32])
    assert trouble.value.status is None


def test_a_sealed_vault_is_transient(openbao: OpenBao, open_transit: OpenTransit) -> None:
    transit = open_transit(openbao.new_key())
    wrapped = transit.wrap([b"x" * 32])
    with openbao.sealed(), pytest.raises(KeyServiceUnavailable, match="sealed") as trouble:
        transit.unwrap(wrapped)
    assert trouble.value.status == 503
    assert transit.unwrap(wrapped) == [b"x" * 32]


def test_a_token_that_an_agent_has_renewed_is_read_again(
    openbao: OpenBao, tmp_path: Path, open_transit: OpenTransit
) -> None:
    settings = openbao.new_key()
    file = tmp_path / "token"
    file.write_text(settings.token.reveal() + "\n")
    transit = open_transit(replace(settings, token=Secret("expired"), token_file=file))
    assert len(transit.wrap([b"x" * 32])) == 1


def test_a_request_has_what_the_protocol_asks_for_and_no_more(open_transit: OpenTransit) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": {"batch_results": [{"ciphertext": "vault:v3:AAAA"}]}})

    settings = TransitSettings(address="https://vault", token=Secret("t"), key="k", mount="a/b", namespace="team")
    assert open_transit(settings, httpx.MockTransport(answer)).wrap([b"x" * 32]) == [Wrapped("vault:k:v3", "AAAA")]
    [request] = seen
    assert (request.method, str(request.url)) == ("POST", "https://vault/v1/a/b/encrypt/k")
    sent = {name: request.headers.get(name) for name in ("x-vault-token", "x-vault-request", "x-vault-namespace")}
    assert list(sent.values()) == ["t", "true", "team"]
    [item] = json.loads(request.content)["batch_input"]
    assert (b64decode(item["plaintext"]), item["context"]) == (b"x" * 32, context)


answers: dict[str, httpx.Response] = {
    "HTML": httpx.Response(200, text="<html>"),
    "nothing": httpx.Response(204),
    "no list": httpx.Response(200, json={"data": {"batch_results": {}}}),
    "too few results": httpx.Response(200, json={"data": {"batch_results": []}}),
    "results that are none": httpx.Response(200, json={"data": {"batch_results": ["x"]}}),
    "an error where a text should be": httpx.Response(200, json={"data": {"batch_results": [{"error": "x"}]}}),
    "another form": httpx.Response(200, json={"data": {"batch_results": [{"ciphertext": "vault:x"}]}}),
    "no base64": httpx.Response(200, json={"data": {"batch_results": [{"ciphertext": "vault:v1:?"}]}}),
    "a redirect": httpx.Response(307, headers={"location": "http://127.0.0.1:1/"}),
    "a standby": httpx.Response(429, json={"errors": ["standby\x1b[31m"]}),
}


@pytest.mark.parametrize("case", answers)
def test_an_answer_that_makes_no_sense_wraps_nothing(case: str, open_transit: OpenTransit) -> None:
    settings = TransitSettings(address="https://vault", token=Secret("t"), key="k")
    with pytest.raises(KeyServiceUnavailable) as trouble:
        open_transit(settings, httpx.MockTransport(lambda request: answers[case])).wrap([b"x" * 32])
    assert "\x1b" not in str(trouble.value)


def test_a_data_key_of_another_length_is_none(open_transit: OpenTransit) -> None:
    answer = httpx.Response(200, json={"data": {"batch_results": [{"plaintext": "AAAA"}]}})
    transit = open_transit(
        TransitSettings(address="https://vault", token=Secret("t")), httpx.MockTransport(lambda request: answer)
    )
    assert transit.unwrap([Wrapped("vault:k:v1", "AAAA")]) == [None]
