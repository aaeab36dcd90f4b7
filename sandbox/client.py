"""Control a sandbox from outside, with one method per control; threads and processes may share it."""

from typing import Any, Self, TypedDict, Unpack

import httpx


class FaultDetails(TypedDict, total=False):
    """What a fault does and when; `count=None` lasts until it is removed."""

    status: int | None
    retry_after: int | None
    delay_ms: int
    body: str | None
    count: int | None
    match: dict[str, Any]
    probability: float
    seed: int | None


class ControlError(Exception):
    """The sandbox refused a control; the message is its own."""


class Control:
    """A client for `/_sandbox` at `url`. Methods raise ControlError, or httpx's errors if it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=f"{self.url}/_sandbox/", timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def authorize(self, url: str, user_id: int = 1, *, allow: bool = True) -> str:
        """Act as the user on the consent page of an authorize URL; return where the browser is redirected to."""
        answer = self._call("POST", "authorize", url=url, user_id=user_id, allow=allow)
        return str(answer["location"])

    def state(self) -> dict[str, Any]:
        """Return clock, settings, clients, users, teams and faults."""
        return self._call("GET", "state")

    def reset(self) -> None:
        """Reset the sandbox to its state at the start."""
        self._call("POST", "reset")

    def set(self, **settings: Any) -> dict[str, Any]:
        """Change fields of `sandbox.Settings`, for example `passport=13`; return all of them."""
        settings_now: dict[str, Any] = self._call("POST", "settings", **settings)["settings"]
        return settings_now

    def advance(self, seconds: float) -> float:
        """Move the sandbox's clock forward; return its time."""
        return float(self._call("POST", "clock", advance=seconds)["now"])

    def counters(self, *, tokens: bool = True) -> dict[str, Any]:
        """Return `sandbox.counters.summarize`; `tokens=False` leaves the long lists out."""
        return self._call("GET", f"counters?tokens={str(tokens).lower()}")

    def reset_counters(self) -> None:
        self._call("POST", "counters/reset")

    def inject(self, on: str, moment: str = "before", kind: str = "status", **details: Unpack[FaultDetails]) -> int:
        """Set a fault (see `sandbox.faults.Fault`) and return its id; it strikes once unless `count` says otherwise."""
        fields: dict[str, Any] = {"count": 1, **details}
        return int(self._call("POST", "faults", on=on, moment=moment, kind=kind, **fields)["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Return every fault with its `hits`."""
        return list(self._call("GET", "faults")["faults"])

    def remove_fault(self, fault_id: int) -> None:
        self._call("DELETE", f"faults/{fault_id}")

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def start_outage(self, kind: str, on: str = "token", *, retry_after: int | None = None, delay_ms: int = 0) -> None:
        """Take an endpoint down in one of the ways of `sandbox.outages.KINDS`, until `end_outage`."""
        self._call("POST", "outage", kind=kind, on=on, retry_after=retry_after, delay_ms=delay_ms)

    def end_outage(self, on: str = "token") -> int:
        """Return how many requests the outage hit."""
        return int(self._call("DELETE", "outage", on=on)["hits"])

    def replace_keys(self) -> None:
        """Give the server new keys: earlier refresh tokens and codes can't be decrypted, access tokens get 401."""
        self._call("POST", "keys/replace")

    def restore_keys(self) -> None:
        """Give the server its first keys back: tokens from before are good again, those from since are not."""
        self._call("POST", "keys/restore")

    def add_client(
        self, client_id: str, client_secret: str, redirect_uris: list[str] | None = None, name: str | None = None
    ) -> None:
        """Add a client, or replace the one with this id; its redirect URIs default to those at the start."""
        self._call(
            "POST",
            "clients",
            client_id=client_id,
            client_secret=client_secret,
            redirect_uris=redirect_uris,
            name=name,
        )

    def change_client(
        self, client_id: str, *, client_secret: str | None = None, redirect_uris: list[str] | None = None
    ) -> None:
        self._call("PATCH", f"clients/{client_id}", client_secret=client_secret, redirect_uris=redirect_uris)

    def delete_client(self, client_id: str) -> None:
        """Delete a client with all of its tokens."""
        self._call("DELETE", f"clients/{client_id}")

    def add_user(
        self,
        name: str = "User",
        *,
        documents: int = 10,
        templates: int = 0,
        invoices: int = 0,
        plan: str = "pro",
        email: str | None = None,
    ) -> int:
        """Return the new user's id."""
        return self.add_users(
            1, name, documents=documents, templates=templates, invoices=invoices, plan=plan, email=email
        )[0]

    def add_users(self, count: int, name: str = "User", **fields: Any) -> list[int]:
        """Add many similar users at once; fields as for `add_user`."""
        return list(self._call("POST", "users", users=count, name=name, **fields)["ids"])

    def set_plan(self, user_id: int, plan: str) -> None:
        """Set the plan to `free`, `pro` or `agency`; the API answers 403 to the first."""
        self._call("PATCH", f"users/{user_id}", plan=plan)

    def add_team(self, user_id: int, name: str = "Team", *, documents: int = 10, templates: int = 2) -> int:
        """Add a team with this user; return its id."""
        fields = {"name": name, "documents": documents, "templates": templates}
        return int(self._call("POST", f"users/{user_id}/teams", **fields)["id"])

    def revoke_user(self, user_id: int, client_id: str | None = None) -> int:
        """Revoke the app as the user (all apps without a client id); return how many grants ended."""
        return int(self._call("POST", f"users/{user_id}/revoke", client_id=client_id)["revoked"])

    def expire(
        self,
        user_id: int | None = None,
        *,
        access: bool = True,
        refresh: bool = False,
        in_seconds: float = 0,
    ) -> int:
        """Expire existing tokens, of one user or of all; return how many."""
        path = "expire" if user_id is None else f"users/{user_id}/expire"
        return int(self._call("POST", path, access=access, refresh=refresh, in_seconds=in_seconds)["expired"])

    def personal_token(self, user_id: int) -> str:
        return str(self._call("POST", f"users/{user_id}/personal-token")["access_token"])

    def grant(self, user_id: int, client_id: str | None = None, scope: str = "*") -> dict[str, Any]:
        """Return a token answer without the consent page, to create many connections."""
        return self._call("POST", f"users/{user_id}/grant", client_id=client_id, scope=scope)

    def documents(self, user_id: int) -> list[dict[str, Any]]:
        """Return id, title and recipients of each document, by ascending id."""
        return list(self._call("GET", f"users/{user_id}/documents")["documents"])

    def add_documents(self, user_id: int, count: int = 1, title: str | None = None) -> list[int]:
        return list(self._call("POST", f"users/{user_id}/documents", count=count, title=title)["ids"])

    def edit_document(self, user_id: int, document_id: int, title: str) -> None:
        self._call("PATCH", f"users/{user_id}/documents/{document_id}", title=title)

    def delete_document(self, user_id: int, document_id: int) -> None:
        self._call("DELETE", f"users/{user_id}/documents/{document_id}")

    def send_document(self, user_id: int, document_id: int, recipient_id: int | None = None) -> None:
        self._step(user_id, document_id, "send", recipient_id)

    def open_document(self, user_id: int, document_id: int, recipient_id: int | None = None) -> None:
        self._step(user_id, document_id, "open", recipient_id)

    def complete_document(self, user_id: int, document_id: int, recipient_id: int | None = None) -> None:
        """Sign as one recipient, or as all of them."""
        self._step(user_id, document_id, "complete", recipient_id)

    def decline_document(self, user_id: int, document_id: int, recipient_id: int | None = None) -> None:
        """Refuse to sign as one recipient, or as all of them."""
        self._step(user_id, document_id, "decline", recipient_id)

    def set_invoice_status(self, user_id: int, invoice_id: int, status: str) -> None:
        self._call("PATCH", f"users/{user_id}/invoices/{invoice_id}", status=status)

    def _step(self, user_id: int, document_id: int, step: str, recipient_id: int | None) -> None:
        self._call("POST", f"users/{user_id}/documents/{document_id}/{step}", recipient_id=recipient_id)

    def _call(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        sent = {name: value for name, value in fields.items() if value is not None}
        response = self._http.request(method, path, json=sent or None)
        answer: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise ControlError(f"{method} {path}: {answer.get('message', response.status_code)}")
        return answer
