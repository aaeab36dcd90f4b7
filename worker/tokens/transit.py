"""The transit engine of HashiCorp Vault or OpenBao: a master key that wraps data keys and never leaves its server."""

import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from models.crypto.errors import KeyServiceUnavailable
from models.crypto.keys import key_bytes
from models.crypto.sealed_text import Wrapped, decode, encode
from models.crypto.secrets import Secret
from models.crypto.transit_settings import TransitSettings

timeout = httpx.Timeout(3, connect=2)
longest_error = 200
context = b64encode(b"breezesync data key").decode("ascii")
"""Which part of the key is used, if the operator made it with `derived=true`; otherwise the server ignores it."""
T = TypeVar("T")


class Transit:
    """Asks the server; each call is one request for each key that is named. Threads may share it.

    A data key that it wrapped is named `vault:KEY:vVERSION`, so that KEY can be changed in the settings.
    """

    def __init__(self, settings: TransitSettings, transport: httpx.BaseTransport | None = None) -> None:
        self.settings = settings
        self._token = settings.token
        verify = True if settings.authorities is None else _trust(settings.authorities)
        self._client = httpx.Client(timeout=timeout, trust_env=False, verify=verify, transport=transport)

    @property
    def id(self) -> str:
        return f"vault:{self.settings.key}"

    def owns(self, key_id: str) -> bool:
        return key_id.startswith("vault:")

    def wrap(self, materials: Sequence[bytes]) -> list[Wrapped]:
        name = self._own_key()
        items = [{"plaintext": b64encode(material).decode("ascii")} for material in materials]
        wrapped = [_read_wrapped(name, each) for each in self._ask("encrypt", name, items)]
        if any(each is None for each in wrapped):
            raise KeyServiceUnavailable(f"{self._where('encrypt', name)} did not wrap every data key")
        return [each for each in wrapped if each is not None]

    def unwrap(self, wrapped: Sequence[Wrapped]) -> list[bytes | None]:
        return self._by_name("decrypt", wrapped, lambda name, result: _read_material(result))

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | None]:
        """Wrap by the newest version of the configured key; a data key of another key is unwrapped for that."""
        name = self._own_key()
        own = [each for each in wrapped if _name_of(each) == name]
        done = dict(zip(own, self._by_name("rewrap", own, _read_wrapped), strict=True))
        others = [each for each in wrapped if each not in done]
        opened = {each: key for each, key in zip(others, self.unwrap(others), strict=True) if key is not None}
        done.update(zip(opened, self.wrap(list(opened.values())), strict=True))
        return [done.get(each) for each in wrapped]

    def close(self) -> None:
        self._client.close()

    def _by_name(
        self, what: str, wrapped: Sequence[Wrapped], read: Callable[[str, Mapping[str, Any]], T | None]
    ) -> list[T | None]:
        done = dict[Wrapped, T | None]()
        for name in dict.fromkeys(_name_of(each) for each in wrapped):
            own = [each for each in wrapped if _name_of(each) == name]
            results = self._ask(what, name, [{"ciphertext": _write_wrapped(each)} for each in own])
            done.update(zip(own, (read(name, result) for result in results), strict=True))
        return [done[each] for each in wrapped]

    def _ask(self, what: str, name: str, items: Sequence[Mapping[str, str]]) -> list[Mapping[str, Any]]:
        """Return a result for each item. Raises `KeyServiceUnavailable`."""
        if not items:
            return []
        answer = self._post(what, name, items)
        if answer.status_code == httpx.codes.FORBIDDEN and self._read_token_again():
            answer = self._post(what, name, items)
        results = _read_results(answer)
        if results is None or len(results) != len(items):
            status, errors = answer.status_code, _read_errors(answer)
            raise KeyServiceUnavailable(f"{self._where(what, name)} answers HTTP {status} ({errors})", status)
        return results

    def _post(self, what: str, name: str, items: Sequence[Mapping[str, str]]) -> httpx.Response:
        headers = {"X-Vault-Token": self._token.reveal(), "X-Vault-Request": "true"}
        if self.settings.namespace is not None:
            headers["X-Vault-Namespace"] = self.settings.namespace
        body = {"batch_input": [{**item, "context": context} for item in items]}
        try:
            return self._client.post(self._where(what, name), headers=headers, json=body)
        except httpx.HTTPError as error:
            why = type(error).__name__
            raise KeyServiceUnavailable(f"{self.settings.address} does not answer ({why})") from None

    def _read_token_again(self) -> bool:
        """Return whether the file has another token than the one that was refused: an agent renews it."""
        if self.settings.token_file is None:
            return False
        try:
            text = self.settings.token_file.read_text().strip()
        except (OSError, ValueError):
            return False
        before, self._token = self._token, Secret(text) if text else self._token
        return self._token != before

    def _own_key(self) -> str:
        if self.settings.key is None:
            raise KeyServiceUnavailable("no key of the transit engine is set to wrap with: set VAULT_TRANSIT_KEY")
        return self.settings.key

    def _where(self, what: str, name: str) -> str:
        return f"{self.settings.address}/v1/{self.settings.mount}/{what}/{name}"


def _read_results(answer: httpx.Response) -> list[Mapping[str, Any]] | None:
    """Return the results of a batch. If single items failed, the status is 400; the answer has results all the same."""
    try:
        results = answer.json()["data"]["batch_results"]
    except (ValueError, KeyError, TypeError):
        return None
    is_whole = isinstance(results, list) and all(isinstance(each, dict) for each in results)
    return results if is_whole and answer.status_code in (httpx.codes.OK, httpx.codes.BAD_REQUEST) else None


def _read_errors(answer: httpx.Response) -> str:
    try:
        errors = "; ".join(str(each) for each in answer.json()["errors"])
    except (ValueError, KeyError, TypeError):
        errors = "no reason given"
    return "".join(c if c.isprintable() else " " for c in errors)[:longest_error]


def _read_material(result: Mapping[str, Any]) -> bytes | None:
    text = result.get("plaintext")
    material = decode(text) if isinstance(text, str) and not result.get("error") else None
    return material if material is not None and len(material) == key_bytes else None


def _read_wrapped(name: str, result: Mapping[str, Any]) -> Wrapped | None:
    """Read `vault:v1:base64`."""
    text = result.get("ciphertext")
    prefix, version, body = text.split(":", 2) if isinstance(text, str) and text.count(":") == 2 else ("", "", "")
    data = decode(body)
    if prefix != "vault" or not data or not (version[:1] == "v" and version[1:].isdecimal()):
        return None
    return Wrapped(f"vault:{name}:{version}", encode(data))


def _write_wrapped(wrapped: Wrapped) -> str:
    version, data = wrapped.key_id.rsplit(":", 1)[1], decode(wrapped.text) or b""
    return f"vault:{version}:{b64encode(data).decode('ascii')}"


def _name_of(wrapped: Wrapped) -> str:
    return wrapped.key_id.split(":", 2)[1]


def _trust(authorities: Path) -> Any:

    return ssl.create_default_context(cafile=str(authorities))
