"""The control page: the sandbox's state, and a form for each common switch."""

from html import escape
from typing import get_args

from sandbox.accounts import User
from sandbox.documents import Document
from sandbox.faults import Fault, Kind
from sandbox.html import draw_page
from sandbox.outages import KINDS
from sandbox.state import SandboxState

LISTED_USERS = 50
LISTED_DOCUMENTS = 15


def draw_control_page(sandbox: SandboxState) -> str:
    """Return the page; its forms need no script, post to the control API and redirect back to it."""
    clock = f"{sandbox.clock.offset:,.0f} s ahead of yours" if sandbox.clock.offset else "the same as yours"
    head = (
        '<div class="card"><h1>BreezeDoc sandbox</h1>'
        f"<p class=soft>Passport {sandbox.settings.passport}. Its clock is {clock}.</p>"
        f"{_form('clock', _field('advance', '3600', 'seconds') + _button('Advance the clock'))}"
        f'<div class="row">{_form("counters/reset", _button("Reset counters"))}'
        f"{_form('reset', _button('Reset everything'))}</div></div>"
    )
    cards = (
        _draw_settings(sandbox)
        + _draw_trouble(sandbox)
        + _draw_faults(sandbox)
        + _draw_clients(sandbox)
        + _draw_new_user()
    )
    return draw_page("BreezeDoc sandbox", f'{head}{_draw_users(sandbox)}<div class="grid">{cards}</div>', wide=True)


def _draw_users(sandbox: SandboxState) -> str:
    rows = "".join(_draw_user(sandbox, user) for user in list(sandbox.directory.users.values())[:LISTED_USERS])
    return _card("Users", rows)


def _draw_user(sandbox: SandboxState, user: User) -> str:
    live = sum(family.is_live(sandbox.clock.now()) for family in sandbox.grants.families_of(user.id))
    path = f"users/{user.id}"
    plan = _select("plan", ("free", "pro", "agency"), user.plan) + _button("Set plan")
    renaming = _field("document_id", "", "document id") + _field("title", "", "new title") + _button("Rename")
    forms = (
        _form(f"{path}/revoke", _button("Revoke all grants"))
        + _form(f"{path}/expire", "<span class=soft>Access tokens</span>" + _button("Expire", f"expire-{user.id}"))
        + _form(path, plan, "PATCH")
        + _form(f"{path}/documents", _field("title", "", "title") + _button("Add document"))
        + _form(f"{path}/documents", renaming, "PATCH")
        + _draw_documents(sandbox, user)
    )
    facts = f"{escape(user.email)} · {user.plan} · {len(user.desk.documents)} documents · {live} live grants"
    return f"<details><summary><b>{user.id} {escape(user.name)}</b> <small>{facts}</small></summary>{forms}</details>"


def _draw_documents(sandbox: SandboxState, user: User) -> str:
    """List the newest documents with what can happen to each."""
    newest = user.desk.documents.ids()[: -LISTED_DOCUMENTS - 1 : -1]
    rows = "".join(_draw_document(sandbox, user, document) for document in user.desk.documents.pick(newest))
    more = len(user.desk.documents) - len(newest)
    return f"<ul class=plain>{rows}</ul>" + (f"<p class=soft>… and {more:,} older ones.</p>" if more else "")


def _draw_document(sandbox: SandboxState, user: User, document: Document) -> str:
    path = f"users/{user.id}/documents/{document.id}"
    buttons = "".join(
        _form(f"{path}/{step}", _button(text, f"{step}-{document.id}"))
        for step, text in (("complete", "Sign"), ("decline", "Decline"))
    )
    facts = f"{document.id} · {_tell_progress(document)}"
    return (
        f"<li><span>{escape(document.title)}<br><small>{escape(facts)}</small></span>"
        f'<span class="row">{buttons}</span></li>'
    )


def _tell_progress(document: Document) -> str:
    if document.declined:
        return "declined"
    signed = sum(one.completed_at is not None for one in document.recipients)
    return f"{signed} of {len(document.recipients)} signed"


def _draw_settings(sandbox: SandboxState) -> str:
    settings = sandbox.settings
    numbers = ("access_ttl", "refresh_ttl", "rate_limit", "token_rate_limit", "latency_ms", "rotation_gap_ms")
    fields = "".join(_field(name, str(getattr(settings, name)), name.replace("_", " ")) for name in numbers)
    passport = _select("passport", ("12", "13"), str(settings.passport))
    reuse = _select("refresh_reuse", ("harmless", "family_revoked", "grace"), settings.refresh_reuse)
    revocation = _select("revocation_endpoint", ("false", "true"), str(settings.revocation_endpoint).lower())
    return _card("Settings", _form("settings", passport + reuse + revocation + fields + _button("Save")))


def _draw_trouble(sandbox: SandboxState) -> str:
    """Offer what takes the whole server down or away, and the way back from it."""
    under_way = [
        f"<p>{on}: {outage['kind']}, {outage['hits']} requests hit</p>"
        + _form("outage", f'<input type="hidden" name="on" value="{on}">' + _button("End the outage"), "DELETE")
        for on, outage in sandbox.outages.describe().items()
    ]
    start = _select("on", ("token", "api", "authorize"), "token") + _select("kind", tuple(KINDS), "502")
    replaced = sandbox.grants.key != 0
    keys = _form("keys/restore", _button("Restore the keys")) if replaced else ""
    text = "<p class=soft>No token or code from before the keys were replaced can be read.</p>" if replaced else ""
    body = "".join(under_way) + _form("outage", start + _button("Start an outage"))
    return _card("Outages and keys", body + text + _form("keys/replace", _button("Replace the keys")) + keys)


def _draw_faults(sandbox: SandboxState) -> str:
    rows = "".join(f"<p>{_draw_fault(fault)}</p>" for fault in sandbox.faults.list_all())
    form = _form(
        "faults",
        _select("on", ("token", "api", "authorize"), "token")
        + _select("moment", ("before", "middle", "after"), "before")
        + _select("kind", get_args(Kind), "status")
        + _field("status", "503", "status")
        + _field("retry_after", "", "retry after")
        + _field("delay_ms", "", "delay ms")
        + _field("count", "1", "count (empty: always)")
        + _field("match.user_id", "", "only user")
        + _button("Add fault"),
    )
    return _card("Faults", rows + form)


def _draw_fault(fault: Fault) -> str:
    text = f"{fault.on}, {fault.moment}: {fault.kind} {fault.status or ''} · {fault.hits} of {fault.count or '∞'}"
    return escape(text) + _form(f"faults/{fault.id}", _button("Remove"), "DELETE")


def _draw_clients(sandbox: SandboxState) -> str:
    rows = "".join(
        f"<p><b>{escape(client.id)}</b><br><small>{escape(', '.join(client.redirect_uris))}</small></p>"
        + _form(f"clients/{client.id}", _field("client_secret", "", "new secret") + _button("Change"), "PATCH")
        + _form(f"clients/{client.id}", _button("Delete"), "DELETE")
        for client in sandbox.grants.clients.values()
    )
    fields = _field("client_id", "", "client id") + _field("client_secret", "", "secret")
    return _card(
        "Clients", rows + _form("clients", fields + _field("redirect_uris", "", "redirect URIs") + _button("Add"))
    )


def _draw_new_user() -> str:
    fields = _field("name", "", "name") + _field("documents", "10", "documents")
    return _card("New user", _form("users", fields + _button("Add user")))


def _card(title: str, body: str) -> str:
    return f'<div class="card"><h2>{escape(title)}</h2>{body}</div>'


def _form(path: str, body: str, method: str = "POST") -> str:
    hidden = f'<input type="hidden" name="_method" value="{method}">' if method != "POST" else ""
    return f'<form method="post" action="/_sandbox/{escape(path)}"><div class="row">{hidden}{body}</div></form>'


def _field(name: str, value: str, label: str) -> str:
    return f'<label>{escape(label)}<input name="{escape(name)}" value="{escape(value)}"></label>'


def _select(name: str, options: tuple[str, ...], chosen: str) -> str:
    choices = "".join(
        f"<option{' selected' if option == chosen else ''}>{escape(option)}</option>" for option in options
    )
    return f'<label>{escape(name.replace("_", " "))}<select name="{escape(name)}">{choices}</select></label>'


def _button(text: str, name: str = "") -> str:
    mark = f' id="{escape(name)}"' if name else ""
    return f"<button{mark}>{escape(text)}</button>"
