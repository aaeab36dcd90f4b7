"""Keep clock, clients, accounts, documents and grants in a file, so that a restart forgets nobody's consent."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sandbox.accounts import Directory, RecordList, Team, User, Workspace
from sandbox.documents import Document, Invoice, Recipient
from sandbox.grants import AccessToken, Client, Code, Family, Grants, RefreshToken
from sandbox.state import SandboxState

FORMAT = 1


class KeptStateError(Exception):
    """The file can't be read; the message names it."""


def save_state(sandbox: SandboxState, path: Path) -> None:
    """Write the file whole or not at all: a kill at any moment leaves the old one or the new one."""
    kept = {
        "format": FORMAT,
        "clock_offset": sandbox.clock.offset,
        "sessions": sandbox.sessions,
        "directory": _write_directory(sandbox.directory),
        "grants": _write_grants(sandbox.grants),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(kept, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_state(sandbox: SandboxState, path: Path) -> None:
    """Read the file if there is one; the client given at the start replaces the kept one. Raises KeptStateError."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] != FORMAT:
            raise KeptStateError(f"{path} was written by another version of the sandbox: remove it to start over")
        sandbox.clock.offset = float(kept["clock_offset"])
        sandbox.sessions = dict(kept["sessions"])
        _read_directory(sandbox.directory, kept["directory"])
        _read_grants(sandbox.grants, kept["grants"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise KeptStateError(f"{path} is not a kept state of the sandbox: remove it to start over") from problem


def _write_directory(directory: Directory) -> dict[str, Any]:
    return {
        "last_ids": directory.last_ids,
        "users": [
            {"id": user.id, "name": user.name, "email": user.email, "plan": user.plan}
            | {"team_ids": sorted(user.team_ids), "desk": _write_desk(user.desk)}
            for user in directory.users.values()
        ],
        "teams": [
            {"id": team.id, "name": team.name, "owner_id": team.owner_id, "desk": _write_desk(team.desk)}
            for team in directory.teams.values()
        ],
    }


def _write_desk(desk: Workspace) -> dict[str, Any]:
    lists: dict[str, RecordList[Any]] = {
        "documents": desk.documents,
        "templates": desk.templates,
        "invoices": desk.invoices,
    }
    written: dict[str, Any] = {"opened_at": desk.opened_at}
    for name, records in lists.items():
        changed = [asdict(one) | {"segments": None} for one in records.drafted() if one.edited]
        written[name] = {"ids": records.ids(), "changed": changed}
    return written


def _read_directory(directory: Directory, kept: Mapping[str, Any]) -> None:
    directory.last_ids = dict(kept["last_ids"])
    directory.users = {
        one["id"]: User(
            one["id"], one["name"], one["email"], one["plan"], _read_desk(directory, one["desk"]), set(one["team_ids"])
        )
        for one in kept["users"]
    }
    directory.teams = {
        one["id"]: Team(one["id"], one["name"], one["owner_id"], _read_desk(directory, one["desk"]))
        for one in kept["teams"]
    }


def _read_desk(directory: Directory, kept: Mapping[str, Any]) -> Workspace:
    desk = directory.open_desk(kept["opened_at"])
    for records, name in ((desk.documents, "documents"), (desk.templates, "templates")):
        records.place(kept[name]["ids"])
        for one in kept[name]["changed"]:
            recipients = [Recipient(**recipient) for recipient in one["recipients"]]
            records.put_back(one["id"], Document(**{**one, "recipients": recipients}))
    desk.invoices.place(kept["invoices"]["ids"])
    for one in kept["invoices"]["changed"]:
        invoice = {name: value for name, value in one.items() if name != "segments"}
        desk.invoices.put_back(one["id"], Invoice(**{**invoice, "items": tuple(map(tuple, one["items"]))}))
    return desk


def _write_grants(grants: Grants) -> dict[str, Any]:
    """Presentations are left out: counters count one run."""
    return {
        "last_id": grants.last_id,
        "key": grants.key,
        "newest_key": grants.newest_key,
        "clients": [asdict(client) for client in grants.clients.values()],
        "families": [
            {"id": family.id, "client_id": family.client_id, "user_id": family.user_id}
            | {"scope": family.scope, "revoked_at": family.revoked_at}
            for families in grants.families.values()
            for family in families
        ],
        "codes": {digest.hex(): _write_flat(code) for digest, code in grants.codes.items()},
        "access_tokens": {
            digest.hex(): _write_flat(token) | {"family": token.family.id}
            for digest, token in grants.access_tokens.items()
        },
        "refresh_tokens": {
            digest.hex(): _write_flat(token) | {"family": token.family.id, "access": token.access.id}
            for digest, token in grants.refresh_tokens.items()
        },
    }


def _write_flat(record: Code | AccessToken | RefreshToken) -> dict[str, Any]:
    left_out = ("family", "access", "presentations")
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name not in left_out}


def _read_grants(grants: Grants, kept: Mapping[str, Any]) -> None:
    grants.last_id, grants.key, grants.newest_key = kept["last_id"], kept["key"], kept["newest_key"]
    for one in kept["clients"]:
        client = Client(one["id"], one["secret"], tuple(one["redirect_uris"]), one["name"])
        grants.clients.setdefault(client.id, client)
    families: dict[int, Family] = {}
    for one in kept["families"]:
        family = families[one["id"]] = Family(**{**one, "scope": tuple(one["scope"])})
        grants.families.setdefault(family.user_id, []).append(family)
    for digest, one in kept["codes"].items():
        grants.codes[bytes.fromhex(digest)] = Code(**{**one, "scope": tuple(one["scope"])})
    accesses: dict[int, AccessToken] = {}
    for digest, one in kept["access_tokens"].items():
        access = AccessToken(**{**one, "family": families[one["family"]]})
        grants.access_tokens[bytes.fromhex(digest)] = accesses[access.id] = access
        access.family.access_tokens.append(access)
    for digest, one in kept["refresh_tokens"].items():
        refresh = RefreshToken(**{**one, "family": families[one["family"]], "access": accesses[one["access"]]})
        grants.refresh_tokens[bytes.fromhex(digest)] = refresh
        refresh.family.refresh_tokens.append(refresh)
