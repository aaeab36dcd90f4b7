"""Where a browser is sent next, and what a page with a form has to allow for that."""

from collections.abc import Mapping
from urllib.parse import unquote_plus, urlencode, urlsplit, urlunsplit

from models.oauth.authorization import Authorization, awaits_application, flow_of
from models.oauth.confirmation import confirmation_of
from worker.web.cookies import Bindings


def result_path(authorization: Authorization) -> str:
    """Return the result page's path relative to the callback's, whatever prefix a proxy puts before it."""
    return f"done/{authorization.id}"


def find_way_on(authorization: Authorization, bindings: Bindings) -> str:
    """Return where the browser that brought the code goes: to the result page, relative to the callback, unless the
    application has yet to confirm. Then it is sent there, each time with the same confirmation."""
    binding = bindings.get(flow_of(authorization.state_hash))
    if authorization.return_to is None or binding is None or not awaits_application(authorization):
        return result_path(authorization)
    asked = {"authorization_id": authorization.id, "confirmation": confirmation_of(binding)}
    return add_to_query(authorization.return_to, asked)


def add_to_query(url: str, more: Mapping[str, str]) -> str:
    """Return the URL with parameters added, in place of those of the same name; the others stay as they are written."""
    parts = urlsplit(url)
    kept = [each for each in parts.query.split("&") if each and unquote_plus(each.partition("=")[0]) not in more]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(more)])))


def allow_form(headers: Mapping[str, str], *urls: str | None) -> dict[str, str]:
    """Return the headers of a page whose form leads to these URLs.

    Chrome holds every redirect that follows a form against `form-action`, and what hosts a provider and an application
    send a browser to is not known here: so only the scheme is bounded.
    """
    schemes = " http:" if any(url is not None and url.lower().startswith("http:") for url in urls) else ""
    name = "Content-Security-Policy"
    policy = headers[name].replace("form-action 'none'", f"form-action 'self' https:{schemes}")
    return {**headers, name: policy}
