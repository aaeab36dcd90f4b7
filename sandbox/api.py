"""The API's endpoints: they check token, rate limit and plan, then answer."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sandbox.accounts import RecordList, Team, User, Workspace
from sandbox.documents import Document, Invoice, Recipient, sign_urls
from sandbox.grants import AccessToken
from sandbox.http import Answer, Request, answer_json, answer_problem, encode_json, redirect
from sandbox.pages import Page, order_rows, read_page_number
from sandbox.state import SandboxState
from sandbox.writes import create_document, create_from_template, send_document

PREFIXES = ("/api/", "/v1/")

_READS, _WRITES = ("GET", "HEAD"), ("POST",)
_ROUTES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"documents"), _READS + _WRITES),
    (re.compile(r"documents/[0-9]{1,11}/send|templates/[0-9]{1,11}/create-document"), _WRITES),
    (
        re.compile(
            r"me|templates|invoices|(documents|templates|invoices)/[0-9]{1,11}|documents/[0-9]{1,11}/recipients"
            r"|recipients|teams/[0-9]{1,11}/(documents|templates)"
        ),
        _READS,
    ),
)
"""What there is, with its methods; invoices are only read here."""

Key = Callable[[Any], float | str | None]
Orders = Mapping[str, Key]

_DOCUMENT_ORDERS: Orders = {"completed_at": lambda document: document.completed_at}
_TEAM_DOCUMENT_ORDERS: Orders = {**_DOCUMENT_ORDERS, "created_at": lambda document: document.created_at}
_TEAM_TEMPLATE_ORDERS: Orders = {
    "created_at": lambda template: template.created_at,
    "updated_at": lambda template: template.updated_at,
}
_RECIPIENT_ORDERS: Orders = {
    "id": lambda recipient: recipient.id,
    "completed_at": lambda recipient: recipient.completed_at,
}
_INVOICE_ORDERS: Orders = {
    "created_at": lambda invoice: invoice.created_at,
    "payment_due": lambda invoice: invoice.payment_due,
}


def find_token(sandbox: SandboxState, request: Request) -> AccessToken | None:
    """Return the valid token of the Authorization header."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = sandbox.grants.find_access(value.strip())
    return token if token is not None and token.is_live(sandbox.clock.now()) else None


def answer_api(sandbox: SandboxState, request: Request, token: AccessToken | None) -> Answer:
    """Answer in Laravel's order: find the route, check the token, the rate limit, the plan, then return the data."""
    answer = _refuse_route(request) or _answer_route(sandbox, request, token)
    answer.headers["access-control-allow-origin"] = "*"
    return answer


def _refuse_route(request: Request) -> Answer | None:
    """Return what is answered without looking at the token: a preflight, 404 and 405."""
    if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
        methods = request.headers["access-control-request-method"]
        asked = {"access-control-allow-methods": methods, "access-control-max-age": "0"}
        if (names := request.headers.get("access-control-request-headers")) is not None:
            asked["access-control-allow-headers"] = names
        return Answer(204, headers=asked)
    path = request.path.partition("/")[2].partition("/")[2]
    methods_there = next((methods for pattern, methods in _ROUTES if pattern.fullmatch(path)), None)
    if methods_there is None:
        return answer_problem(request, 404, f"The route {request.path.strip('/')} could not be found.")
    if request.method not in methods_there:
        allowed = ", ".join(methods_there)
        text = f"The {request.method} method is not supported for route {request.path.strip('/')}."
        return answer_problem(request, 405, f"{text} Supported methods: {allowed}.", {"allow": allowed})
    return None


def _answer_route(sandbox: SandboxState, request: Request, token: AccessToken | None) -> Answer:
    user = sandbox.directory.users.get(token.family.user_id) if token is not None else None
    if user is None:
        return answer_problem(request, 401) if request.wants_json else redirect(f"{request.origin}/login")
    now = sandbox.clock.now()
    sandbox.counters.note_api(user.id, now)
    allowance = sandbox.windows.count(("user", user.id), sandbox.settings.rate_limit, now)
    if allowance is not None and allowance.retry_after is not None:
        return answer_problem(request, 429, headers=allowance.headers)
    answer = _answer_user(sandbox, request, user)
    if allowance is not None and answer.status != 404:
        answer.headers.update(allowance.headers)
    return answer


def name_route(path: str) -> str:
    """Return the path without its numbers, as the counters list it."""
    return "/".join("{id}" if part.isdigit() else part for part in path.split("/"))


def _answer_user(sandbox: SandboxState, request: Request, user: User) -> Answer:
    if user.plan == "free":
        return answer_problem(request, 403, "API access requires a Pro or Agency plan.")
    if request.method == "POST":
        return _answer_write(sandbox, request, user)
    match [int(part) if part.isdecimal() and len(part) < 12 else part for part in request.path.split("/")[2:]]:
        case ["me"]:
            return answer_json(200, user.to_json())
        case ["documents"]:
            return _answer_list(sandbox, request, user.desk.documents, _DOCUMENT_ORDERS)
        case ["documents", int(number)]:
            return _show_document(sandbox, request, user, number, "documents")
        case ["documents", int(number), "recipients"]:
            document = user.desk.documents.find(number)
            if document is None:
                return _refuse_record(sandbox, request, "Document", number, "documents")
            return _list_recipients(request, document.recipients)
        case ["templates"]:
            return _answer_list(sandbox, request, user.desk.templates, {})
        case ["templates", int(number)]:
            return _show_document(sandbox, request, user, number, "templates")
        case ["recipients"]:
            return _list_recipients(request, user.desk.recipients())
        case ["invoices"]:
            return _list_invoices(request, user.desk.invoices)
        case ["invoices", int(number)]:
            invoice = user.desk.invoices.find(number)
            if invoice is None:
                return _refuse_record(sandbox, request, "Invoice", number, "invoices")
            return answer_json(200, {"data": invoice.to_json()})
        case ["teams", int(number), "documents"]:
            team = _find_team(sandbox, request, user, number)
            if isinstance(team, Answer):
                return team
            return _answer_list(sandbox, request, team.desk.documents, _TEAM_DOCUMENT_ORDERS)
        case ["teams", int(number), "templates"]:
            team = _find_team(sandbox, request, user, number)
            if isinstance(team, Answer):
                return team
            return _answer_list(sandbox, request, team.desk.templates, _TEAM_TEMPLATE_ORDERS)
        case _:
            return answer_problem(request, 404, f"The route {request.path.strip('/')} could not be found.")


def _answer_write(sandbox: SandboxState, request: Request, user: User) -> Answer:
    directory, now = sandbox.directory, sandbox.clock.now()
    match [int(part) if part.isdecimal() and len(part) < 12 else part for part in request.path.split("/")[2:]]:
        case ["documents"]:
            return create_document(directory, request, user, now)
        case ["documents", int(number), "send"]:
            document = user.desk.documents.find(number)
            if document is None:
                return _refuse_record(sandbox, request, "Document", number, "documents")
            return send_document(request, document, now)
        case ["templates", int(number), "create-document"]:
            template = user.desk.templates.find(number)
            if template is None:
                return _refuse_record(sandbox, request, "Document", number, "templates")
            return create_from_template(directory, user, template, now)
        case _:
            return answer_problem(request, 404, f"The route {request.path.strip('/')} could not be found.")


def _answer_list(sandbox: SandboxState, request: Request, shelf: RecordList[Document], orders: Orders) -> Answer:
    """Return a flat page, newest first unless the request says otherwise."""
    query = request.query if request.query_string else {}
    descending = query.get("direction", "desc") != "asc"
    key = orders.get(query.get("order_by", ""))
    completed = query.get("completed") if "created_at" in orders else None
    signature = sign_urls(sandbox.clock.now())
    rows: Sequence[Document]
    if key is None and completed is None:
        ids = shelf.ids()
        if descending:
            ids.reverse()
        page = _open_page(request, query, len(ids))
        rows = shelf.pick(page.cut(ids))
    else:
        documents = [one for one in shelf.all() if _is_wanted(one.completed_at, completed)]
        ordered = order_rows(documents, key or (lambda document: document.id), descending=descending)
        page = _open_page(request, query, len(ordered))
        rows = page.cut(ordered)
    return Answer(200, page.render_flat([document.render(signature) for document in rows]))


def _list_recipients(request: Request, recipients: Sequence[Recipient]) -> Answer:
    query = request.query
    key = _RECIPIENT_ORDERS.get(query.get("order_by", "id"), _RECIPIENT_ORDERS["id"])
    wanted = [one for one in recipients if _is_wanted(one.completed_at, query.get("completed"))]
    ordered = order_rows(wanted, key, descending=query.get("direction", "desc") != "asc")
    page = _open_page(request, query, len(ordered))
    return _answer_collection(page, [recipient.to_json() for recipient in page.cut(ordered)])


def _list_invoices(request: Request, shelf: RecordList[Invoice]) -> Answer:
    query = request.query
    key = _INVOICE_ORDERS.get(query.get("order_by", ""), lambda invoice: invoice.id)
    status = query.get("status")
    invoices = [one for one in shelf.all() if status in (None, one.status)]
    ordered = order_rows(invoices, key, descending=query.get("direction", "desc") != "asc")
    page = _open_page(request, query, len(ordered))
    return _answer_collection(page, [invoice.to_json() for invoice in page.cut(ordered)])


def _answer_collection(page: Page, rows: Sequence[dict[str, Any]]) -> Answer:
    return Answer(200, page.render_collection([encode_json(row) for row in rows]))


def _open_page(request: Request, query: Mapping[str, str], total: int) -> Page:
    return Page(f"{request.origin}{request.path}", read_page_number(query.get("page")), total)


def _is_wanted(completed_at: float | None, completed: str | None) -> bool:
    if completed in ("true", "1"):
        return completed_at is not None
    if completed in ("false", "0"):
        return completed_at is None
    return True


def _show_document(sandbox: SandboxState, request: Request, user: User, number: int, kind: str) -> Answer:
    shelf = user.desk.documents if kind == "documents" else user.desk.templates
    document = shelf.find(number)
    if document is None:
        return _refuse_record(sandbox, request, "Document", number, kind)
    return Answer(200, document.render(sign_urls(sandbox.clock.now())))


def _find_team(sandbox: SandboxState, request: Request, user: User, number: int) -> Team | Answer:
    team = sandbox.directory.teams.get(number)
    if team is None:
        return _refuse_missing(request, "Team", number)
    if number not in user.team_ids:
        return answer_problem(request, 403, "This action is unauthorized.")
    return team


def _refuse_record(sandbox: SandboxState, request: Request, model: str, number: int, kind: str) -> Answer:
    """Return 403 for a record of another owner, 404 for one that does not exist."""
    desks: list[Workspace] = [owner.desk for owner in sandbox.directory.users.values()]
    desks += [team.desk for team in sandbox.directory.teams.values()]
    if any(number in getattr(desk, kind) for desk in desks):
        return answer_problem(request, 403, "This action is unauthorized.")
    return _refuse_missing(request, model, number)


def _refuse_missing(request: Request, model: str, number: int) -> Answer:
    return answer_problem(request, 404, f"No query results for model [App\\Models\\{model}] {number}")
