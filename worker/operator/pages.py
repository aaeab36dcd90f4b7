"""The operator's pages as HTML, made of the views. See `worker/operator/app.py` for how they are served."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from models.errors import RedisUnavailable
from models.queue import DeadLetter
from worker.operations.dead_letters import find
from worker.operator import pictures, wording
from worker.operator.states import describe_status, name_of, tone_of, tone_of_state
from worker.operator.timeline import arrange, facts_of
from worker.operator.views.authorizations import Which, load_authorizations
from worker.operator.views.connections import Search, load_connections
from worker.operator.views.dead_letters import line_of, load_dead_letters
from worker.operator.views.events import load_events
from worker.operator.views.groups import load_groups
from worker.operator.views.overview import load_overview
from worker.operator.views.places import can_be_stored
from worker.operator.views.providers import load_providers
from worker.operator.views.queues import load_queues
from worker.operator.views.story import load_story
from worker.operator.views.webhooks import load_webhooks
from worker.operator.visit import Page, Refusal, SignIn, Visit

folder = Path(__file__).parent
media_types = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
navigation = (
    ("", "Overview"),
    ("connections", "Connections"),
    ("authorizations", "Authorizations"),
    ("providers", "Providers"),
    ("events", "Events"),
    ("groups", "Consumers"),
    ("webhooks", "Webhooks"),
    ("queues", "Queues"),
    ("dead-letters", "Dead letters"),
)
kinds: Mapping[str, Which] = {"under_way": "under_way", "failed": "failed"}


@cache
def read_assets() -> Mapping[str, tuple[str, bytes]]:
    """Return the style sheet, the script and the icon, each by a name that changes with its content."""
    found = {}
    for path in sorted((folder / "assets").iterdir()):
        content = path.read_bytes()
        name = f"{path.stem}-{sha256(content).hexdigest()[:12]}{path.suffix}"
        found[name] = (media_types[path.suffix], content)
    return found


def open_templates() -> Environment:
    """Return the templates with what they call; a name that none of them is given is an error."""
    templates = Environment(
        loader=FileSystemLoader(folder / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": wording.format_number,
        "duration": wording.format_length,
        "day": wording.format_day,
        "ago": wording.show_time,
        "due": wording.show_due,
        "facts": wording.list_facts,
        "kept": facts_of,
        "sentence": wording.show_sentence,
        "tone": tone_of_state,
        "status": describe_status,
        "word": lambda state: (tone_of(*state), name_of(*state)),
    }
    names = {Path(name).suffix: name for name in read_assets()}
    templates.globals |= {"navigation": navigation, "assets": {suffix[1:]: name for suffix, name in names.items()}}
    return templates


@dataclass(frozen=True, slots=True)
class HtmlPages:
    """Every page, by the method that makes it; fulfils `Pages`."""

    templates: Environment = field(default_factory=open_templates)

    @property
    def pages(self) -> Mapping[str, Page]:
        return {
            "": self.show_overview,
            "connections": self.show_connections,
            "connections/{id}": self.show_story,
            "authorizations": self.show_authorizations,
            "authorizations/{id}": self.show_story,
            "events": self.show_events,
            "dead-letters": self.show_dead_letters,
            "groups": self.show_groups,
            "providers": self.show_providers,
            "queues": self.show_queues,
            "webhooks": self.show_webhooks,
            "disconnect/{id}": self.confirm_disconnect,
            "accept/{id}": self.confirm_accept,
            "drop": self.confirm_drop,
        }

    @property
    def assets(self) -> Mapping[str, tuple[str, bytes]]:
        return read_assets()

    def sign_in(self, form: SignIn) -> Response:
        return self._render("sign-in.html", {"root": form.root, "form": form})

    def refuse(self, root: str, refusal: Refusal) -> Response:
        return self._render("refusal.html", {"root": root, "refusal": refusal}, refusal.status)

    def show_overview(self, visit: Visit) -> Response:
        view = load_overview(visit.sources)
        return self._show(visit, "overview.html", view=view, pictures=pictures.of_overview(view))

    def show_connections(self, visit: Visit) -> Response:
        asked = {name: visit.request.query_params.get(name) or None for name in Search.__dataclass_fields__}
        view = load_connections(visit.sources, Search(**asked))
        kept = {name: value for name, value in asked.items() if value and name not in ("older_than", "newer_than")}
        turned = {"newer": ("newer_than", view.newer), "older": ("older_than", view.older)}
        links = {name: f"?{urlencode({**kept, key: at})}" for name, (key, at) in turned.items() if at is not None}
        return self._show(visit, "connections.html", view=view, links=links, is_searched=bool(kept))

    def show_story(self, visit: Visit) -> Response | None:
        view = load_story(visit.sources, visit.request.path_params["id"])
        return None if view is None else self._show(visit, "story.html", view=view, days=arrange(view.moments))

    def show_authorizations(self, visit: Visit) -> Response:
        query = visit.request.query_params
        user_id = query.get("user_id") or None
        view = load_authorizations(
            visit.sources, kinds.get(query.get("which", "")), user_id, query.get("older_than") or None
        )
        kept = {"which": view.which or "", "user_id": user_id or ""}
        return self._show(visit, "authorizations.html", view=view, older=_older(kept, view.older))

    def show_events(self, visit: Visit) -> Response:
        query = visit.request.query_params
        type_, connection_id = query.get("type") or None, query.get("connection_id") or None
        view = load_events(visit.sources, type_, connection_id, query.get("older_than") or None)
        kept = {"type": type_ or "", "connection_id": connection_id or ""}
        return self._show(visit, "events.html", view=view, older=_older(kept, view.older))

    def show_dead_letters(self, visit: Visit) -> Response:
        return self._show(visit, "dead-letters.html", view=load_dead_letters(visit.sources))

    def show_groups(self, visit: Visit) -> Response:
        return self._show(visit, "groups.html", view=load_groups(visit.sources))

    def show_providers(self, visit: Visit) -> Response:
        view = load_providers(visit.sources)
        return self._show(visit, "providers.html", view=view, pictures=pictures.of_providers(view.providers))

    def show_queues(self, visit: Visit) -> Response:
        return self._show(visit, "queues.html", view=load_queues(visit.sources))

    def show_webhooks(self, visit: Visit) -> Response:
        return self._show(visit, "webhooks.html", view=load_webhooks(visit.sources))

    def confirm_disconnect(self, visit: Visit) -> Response | None:
        view = load_story(visit.sources, visit.request.path_params["id"])
        if view is None or "disconnect" not in view.actions:
            return None
        return self._show(visit, "disconnect.html", view=view)

    def confirm_accept(self, visit: Visit) -> Response | None:
        name, view = visit.request.path_params["id"], load_providers(visit.sources)
        found = next((each for each in view.providers if each.name == name and "accept" in each.actions), None)
        return None if found is None else self._show(visit, "accept.html", view=view, provider=found)

    def confirm_drop(self, visit: Visit) -> Response | None:
        query = visit.request.query_params
        letter = _find_letter(visit, query.get("queue", ""), query.get("key", ""))
        if letter is None:
            return None
        return self._show(visit, "drop.html", view=load_dead_letters(visit.sources), letter=line_of(letter))

    def _show(self, visit: Visit, template: str, **values: object) -> Response:
        own = {"visit": visit, "root": visit.root, "place": _place_of(visit.request), "back": _back_to(visit.request)}
        return self._render(template, {**own, **values})

    def _render(self, template: str, values: Mapping[str, object], status: int = 200) -> Response:
        return HTMLResponse(self.templates.get_template(template).render(values), status_code=status)


def _find_letter(visit: Visit, queue: str, key: str) -> DeadLetter | None:
    if not can_be_stored(key):
        return None
    try:
        return find(visit.sources.store, visit.sources.queues, queue, key)
    except RedisError as error:
        raise RedisUnavailable(f"Redis does not answer ({type(error).__name__})") from error


def _older(kept: Mapping[str, str], older: str | None) -> str | None:
    if older is None:
        return None
    return "?" + urlencode({name: value for name, value in {**kept, "older_than": older}.items() if value})


def _place_of(request: Request) -> str:
    """Return the entry of the navigation that a page belongs to."""
    path = str(request.scope["path"]).partition("/operator/")[2].partition("/")[0]
    return {"disconnect": "connections", "accept": "providers", "drop": "dead-letters"}.get(path, path)


def _back_to(request: Request) -> str:
    """Return the path below /operator that an action of this page comes back to."""
    path = str(request.scope["path"]).partition("/operator/")[2]
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "notice" and value]
    return f"{path}?{urlencode(kept)}" if kept else path
