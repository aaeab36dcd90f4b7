"""The control API under /_sandbox: every switch, as JSON and as forms that need no script."""

from collections.abc import Callable
from typing import Any, get_args

from sandbox.accounts import User
from sandbox.consent import authorize_as
from sandbox.control_page import draw_control_page
from sandbox.counters import summarize
from sandbox.documents import Document
from sandbox.faults import Target
from sandbox.forms import Inputs, MissingError
from sandbox.grants import PERSONAL_CLIENT, Client
from sandbox.http import Answer, Request, answer_html, answer_json, redirect
from sandbox.settings import Settings
from sandbox.state import SandboxState

PLANS = ("free", "pro", "agency")
FIXED_SETTINGS = ("client_id", "client_secret", "redirect_uris", "state_file")
STEPS = ("send", "open", "complete", "decline")


def answer_control(sandbox: SandboxState, request: Request) -> Answer:
    """Answer 400 with `message` for invalid input, 404 for what does not exist; a form redirects to the page."""
    inputs = Inputs({**request.query, **request.fields})
    method = inputs.text("_method", request.method) if request.method == "POST" else request.method
    parts = [int(part) if part.isdecimal() else part for part in request.path.split("/")[2:]]
    if request.method == "GET" and parts in ([], [""]):
        return answer_html(200, draw_control_page(sandbox))
    if request.method == "POST" and request.headers.get("sec-fetch-site") == "cross-site":
        return answer_json(403, {"message": "controls aren't set from another site's page"})
    try:
        value = _control(sandbox, method.upper(), parts, inputs)
    except MissingError as problem:
        return answer_json(404, {"message": str(problem)})
    except ValueError as problem:
        return answer_json(400, {"message": str(problem)})
    return redirect("/_sandbox", 303) if request.is_form else answer_json(200, value)


def _control(sandbox: SandboxState, method: str, parts: list[int | str], inputs: Inputs) -> Any:
    match method, *parts:
        case "GET", "state":
            return describe_state(sandbox)
        case "GET", "counters":
            tokens = inputs.flag("tokens", True)
            return summarize(sandbox.counters, sandbox.grants, sandbox.clock.now(), tokens=tokens)
        case "POST", "counters", "reset":
            return _done(sandbox.reset_counters)
        case "POST", "reset":
            return _done(sandbox.reset)
        case "POST", "clock":
            sandbox.clock.advance(inputs.number("advance"))
            return {"now": sandbox.clock.now()}
        case (("POST" | "PATCH"), "settings"):
            return _change_settings(sandbox, inputs)
        case "POST", "authorize":
            allow = inputs.flag("allow", True)
            user = _find_user(sandbox, inputs.integer("user_id"))
            return {"location": authorize_as(sandbox, inputs.text("url"), user.id, allow=allow)}
        case _, "faults", *rest:
            return _control_faults(sandbox, method, rest, inputs)
        case "POST", "outage":
            return _start_outage(sandbox, inputs)
        case "DELETE", "outage":
            return {"hits": sandbox.outages.end(inputs.choice("on", get_args(Target), "token"))}
        case "POST", "keys", ("replace" | "restore") as change:
            return _done(sandbox.grants.replace_keys if change == "replace" else sandbox.grants.restore_keys)
        case _, "clients", *rest:
            return _control_clients(sandbox, method, rest, inputs)
        case "POST", "expire":
            return _expire(sandbox, None, inputs)
        case "POST", "users":
            return _add_user(sandbox, inputs)
        case _, "users", int(user_id), *rest:
            return _control_user(sandbox, method, _find_user(sandbox, user_id), rest, inputs)
        case _:
            raise MissingError(f"no control {method} /{'/'.join(map(str, parts))}")


def describe_state(sandbox: SandboxState) -> dict[str, Any]:
    settings = {name: getattr(sandbox.settings, name) for name in Settings.__slots__ if name != "client_secret"}
    return {
        "now": sandbox.clock.now(),
        "settings": settings,
        "clients": [_describe_client(client) for client in sandbox.grants.clients.values()],
        "users": [user.describe() for user in sandbox.directory.users.values()],
        "teams": [
            {"id": team.id, "name": team.name, "owner_id": team.owner_id, "documents": len(team.desk.documents)}
            for team in sandbox.directory.teams.values()
        ],
        "faults": [fault.describe() for fault in sandbox.faults.list_all()],
        "outages": sandbox.outages.describe(),
        "keys": "replaced" if sandbox.grants.key else "original",
    }


def _change_settings(sandbox: SandboxState, inputs: Inputs) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in inputs.names():
        if name not in Settings.__slots__ or name in FIXED_SETTINGS:
            raise ValueError(f"no setting is named {name}")
        default = getattr(sandbox.settings, name)
        if isinstance(default, bool):
            changes[name] = inputs.flag(name)
        else:
            changes[name] = inputs.integer(name) if isinstance(default, int) else inputs.text(name)
    sandbox.change_settings(**changes)
    return {"settings": describe_state(sandbox)["settings"]}


def _start_outage(sandbox: SandboxState, inputs: Inputs) -> dict[str, Any]:
    on: Target = inputs.choice("on", get_args(Target), "token")
    retry_after, delay_ms = inputs.optional_integer("retry_after"), inputs.integer("delay_ms", 0)
    sandbox.outages.start(inputs.text("kind"), on, retry_after, delay_ms)
    return {"outages": sandbox.outages.describe()}


def _control_faults(sandbox: SandboxState, method: str, parts: list[int | str], inputs: Inputs) -> Any:
    match method, *parts:
        case ("GET",):
            return {"faults": [fault.describe() for fault in sandbox.faults.list_all()]}
        case ("POST",):
            wanted: dict[str, Any] = {
                "on": inputs.text("on"),
                "moment": inputs.text("moment", "before"),
                "kind": inputs.text("kind", "status"),
                "status": inputs.optional_integer("status"),
                "retry_after": inputs.optional_integer("retry_after"),
                "delay_ms": inputs.integer("delay_ms", 0),
                "body": inputs.optional_text("body"),
                "count": inputs.optional_integer("count"),
                "match": inputs.mapping("match"),
                "probability": inputs.number("probability", 1.0),
                "seed": inputs.optional_integer("seed"),
            }
            return sandbox.faults.add(**wanted).describe()
        case ("DELETE",):
            return {"removed": sandbox.faults.remove(None)}
        case "DELETE", int(fault_id):
            if not sandbox.faults.remove(fault_id):
                raise MissingError(f"no fault {fault_id}")
            return {"removed": 1}
        case _:
            raise MissingError("no such control of faults")


def _control_clients(sandbox: SandboxState, method: str, parts: list[int | str], inputs: Inputs) -> Any:
    clients = sandbox.grants.clients
    if method == "POST" and not parts:
        client_id = inputs.text("client_id")
        uris = inputs.texts("redirect_uris") or sandbox.settings.redirect_uris
        client = Client(client_id, inputs.text("client_secret"), uris, inputs.text("name", client_id))
        clients[client_id] = client
        return _describe_client(client)
    if method == "GET" and not parts:
        return {"clients": [_describe_client(client) for client in clients.values()]}
    client_id = str(parts[0]) if parts else ""
    if client_id not in clients:
        raise MissingError(f"no client {client_id}")
    client = clients[client_id]
    match method, *parts[1:]:
        case ("PATCH",):
            client.secret = inputs.text("client_secret", client.secret)
            client.redirect_uris = inputs.texts("redirect_uris") or client.redirect_uris
            return _describe_client(client)
        case ("DELETE",):
            sandbox.grants.delete_client(client_id, sandbox.clock.now())
            return {"deleted": client_id}
        case _:
            raise MissingError("no such control of clients")


def _control_user(sandbox: SandboxState, method: str, user: User, parts: list[int | str], inputs: Inputs) -> Any:
    grants, now = sandbox.grants, sandbox.clock.now()
    match method, *parts:
        case ("GET",):
            return user.describe()
        case ("PATCH",):
            user.plan = inputs.choice("plan", PLANS)
            return user.describe()
        case "POST", "revoke":
            return {"revoked": grants.revoke_user(user.id, inputs.optional_text("client_id"), now)}
        case "POST", "expire":
            return _expire(sandbox, user.id, inputs)
        case "POST", "personal-token":
            family = grants.open_family(PERSONAL_CLIENT, user.id, ("*",))
            return {"access_token": grants.issue_access(family, now, sandbox.settings.access_ttl)[1]}
        case "POST", "grant":
            return _grant(sandbox, user, inputs)
        case "POST", "teams":
            documents, templates = inputs.integer("documents", 10), inputs.integer("templates", 2)
            team = sandbox.directory.add_team(inputs.text("name", "Team"), user, documents, templates)
            return {"id": team.id, "name": team.name}
        case "PATCH", "invoices", int(number):
            invoice = user.desk.invoices.find(number)
            if invoice is None:
                raise MissingError(f"user {user.id} has no invoice {number}")
            invoice.status = inputs.choice("status", ("draft", "paid", "uncollectible", "void"))
            invoice.updated_at = now
            return invoice.to_json()
        case _, "documents", *rest:
            return _control_documents(sandbox, method, user, rest, inputs)
        case _:
            raise MissingError("no such control of users")


def _control_documents(sandbox: SandboxState, method: str, user: User, parts: list[int | str], inputs: Inputs) -> Any:
    shelf, now = user.desk.documents, sandbox.clock.now()
    if not parts:
        parts = [number] if (number := inputs.optional_integer("document_id")) is not None else []
    match method, *parts:
        case ("GET",):
            return {"documents": [_describe_document(document) for document in shelf.all()]}
        case ("POST",):
            ids = sandbox.directory.add_documents(user.desk, inputs.integer("count", 1))
            title = inputs.optional_text("title")
            for document in shelf.pick(ids) if title is not None else ():
                document.title = title or document.title
                document.touch(now)
            return {"ids": ids}
        case "DELETE", int(number):
            _find_document(user, number)
            shelf.take_away(number)
            return {"deleted": number}
        case "PATCH", int(number):
            document = _find_document(user, number)
            document.title = inputs.text("title")
            document.touch(now)
            return _describe_document(document)
        case "POST", int(number), str(step) if step in STEPS:
            document = _find_document(user, number)
            _advance_recipients(document, step, inputs.optional_integer("recipient_id"), now)
            return _describe_document(document)
        case _:
            raise MissingError("no such control of documents")


def _advance_recipients(document: Document, step: str, recipient_id: int | None, now: float) -> None:
    """Send to, open for, complete for or decline for one recipient or all; earlier steps are done as well.

    The API documents no field for a declined document: only its times change.
    """
    chosen = [one for one in document.recipients if recipient_id in (None, one.id)]
    if not chosen:
        raise MissingError(f"document {document.id} has no such recipient")
    for recipient in chosen:
        recipient.sent_at = recipient.sent_at or now
        if step != "send":
            recipient.opened_at = recipient.opened_at or now
        if step in ("complete", "decline"):
            recipient.completed_at = now if step == "complete" else None
        recipient.updated_at = now
    if step in ("complete", "decline"):
        document.declined = step == "decline"
    document.touch(now)


def _add_user(sandbox: SandboxState, inputs: Inputs) -> dict[str, Any]:
    users = [
        sandbox.directory.add_user(
            inputs.text("name", "User"),
            inputs.optional_text("email"),
            inputs.choice("plan", PLANS, "pro"),
            documents=inputs.integer("documents", 10),
            templates=inputs.integer("templates", 0),
            invoices=inputs.integer("invoices", 0),
        )
        for _ in range(inputs.integer("users", 1))
    ]
    return {**users[0].describe(), "ids": [user.id for user in users]} if users else {"ids": []}


def _expire(sandbox: SandboxState, user_id: int | None, inputs: Inputs) -> dict[str, int]:
    at = sandbox.clock.now() + inputs.number("in_seconds", 0)
    access, refresh = inputs.flag("access", True), inputs.flag("refresh", False)
    return {"expired": sandbox.grants.expire(user_id, at, access=access, refresh=refresh)}


def _grant(sandbox: SandboxState, user: User, inputs: Inputs) -> dict[str, Any]:
    """Return tokens without the consent page."""
    client_id = inputs.text("client_id", sandbox.settings.client_id)
    if client_id not in sandbox.grants.clients:
        raise MissingError(f"no client {client_id}")
    settings = sandbox.settings
    family = sandbox.grants.open_family(client_id, user.id, tuple(sorted(inputs.text("scope", "*").split())))
    pair = sandbox.grants.issue_pair(family, 1, sandbox.clock.now(), settings.access_ttl, settings.refresh_ttl)
    return {
        "token_type": "Bearer",
        "expires_in": settings.access_ttl,
        "access_token": pair.access_value,
        "refresh_token": pair.refresh_value,
    }


def _find_user(sandbox: SandboxState, user_id: int) -> User:
    if user_id not in sandbox.directory.users:
        raise MissingError(f"no user {user_id}")
    return sandbox.directory.users[user_id]


def _find_document(user: User, number: int) -> Document:
    document = user.desk.documents.find(number)
    if document is None:
        raise MissingError(f"user {user.id} has no document {number}")
    return document


def _describe_client(client: Client) -> dict[str, Any]:
    return {"client_id": client.id, "name": client.name, "redirect_uris": list(client.redirect_uris)}


def _describe_document(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "title": document.title,
        "recipients": [recipient.to_json() for recipient in document.recipients],
    }


def _done(act: Callable[[], None]) -> dict[str, bool]:
    act()
    return {"done": True}
