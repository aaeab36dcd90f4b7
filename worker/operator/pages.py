"""The operator's pages as HTML, made of the views. See `worker/operator/app.py` for how they are served."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from starlette.responses import HTMLResponse, Response

from worker.operator.visit import Page, Refusal, SignIn, Visit


@dataclass(frozen=True, slots=True)
class HtmlPages:
    """Every page; it holds nothing but what is made once."""

    @property
    def pages(self) -> Mapping[str, Page]:
        return {"": _overview}

    @property
    def assets(self) -> Mapping[str, tuple[str, bytes]]:
        return {}

    def sign_in(self, form: SignIn) -> Response:
        field = '<input type="password" name="token" aria-label="OPERATOR_TOKEN" autofocus>'
        to = f'<input type="hidden" name="to" value="{escape(form.to)}">'
        failure = f"<p>{escape(form.failure)}</p>" if form.failure else ""
        action = f"{form.root}sign-in"
        return _page(f'{failure}<form method="post" action="{action}">{to}{field}<button>Sign in</button></form>')

    def refuse(self, root: str, refusal: Refusal) -> Response:
        return _page(f"<h1>{escape(refusal.title)}</h1><p>{escape(refusal.advice)}</p>", refusal.status)


def _overview(visit: Visit) -> Response:
    token = f'<input type="hidden" name="form_token" value="{escape(visit.form_token)}">'
    form = f'<form method="post" action="{visit.root}sign-out">{token}<button>Sign out</button></form>'
    return _page(f"<p>{escape(visit.notice or 'The same as JSON is under /operator/api.')}</p>{form}")


def _page(body: str, status: int = 200) -> Response:
    return HTMLResponse(f"<!doctype html><title>breezesync</title>{body}", status)
