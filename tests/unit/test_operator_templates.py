"""The operator's templates with the worst that a user, a provider or an error can write."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from models.oauth.connection import Connection, Status
from worker.operator.pages import HtmlPages
from worker.operator.timeline import arrange
from worker.operator.views.authorizations import AuthorizationLine, AuthorizationsPage
from worker.operator.views.connections import ConnectionLine, ConnectionsPage, Search
from worker.operator.views.dead_letters import DeadLetterLine, DeadLettersView
from worker.operator.views.events import EventLine, EventsPage
from worker.operator.views.groups import GroupLine, GroupsView, StreamView
from worker.operator.views.providers import ClientView, ProvidersView, ProviderView
from worker.operator.views.story import Moment, Resource, Story
from worker.operator.views.webhooks import EndpointView, TrialView, WebhooksView
from worker.operator.visit import Refusal, SignIn

now = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
script = "<script>alert(1)</script>"
quote = '" onfocus="alert(1)" x=\''
turned = "\u202egnp.exe\u05e9\u05dc\u05d5\u05dd"
long = "x" * 255
hostile = {"markup": script, "quotes": quote, "direction": turned, "length": long}
pages = HtmlPages()


def connection(text: str) -> Connection:
    return Connection("c1", text, text, text, text, Status.active, now, email=text, scope=text, problem="sync_failing")


def views_of(text: str) -> dict[str, dict[str, Any]]:
    """Return what each template is given, with the text wherever a text can be."""
    moment = Moment(now, "decision", text, text, text, True, {text: text, "of": [text], "counts": {text: {text: 2}}})
    facts = {"status": "active", "problem": None, "user_id": text, "email": text}
    story = Story(
        now=now,
        kind="connection",
        id="c1",
        user_id=text,
        provider=text,
        state=text,
        is_bad=True,
        facts=facts,
        next_steps=[text],
        moments=[
            moment,
            Moment(now, "call", text, text, text, False, {}),
            Moment(now, "event", text, text, text, False, {}),
        ],
        resources=[Resource(text, 1, text)],
        progress=text,
        actions=["refresh", "sync", "disconnect"],
        disconnect_due=False,
        related=[text],
    )
    letter = DeadLetterLine("m", text, text, text, {"user_id": text}, now, text, 0, True, None)
    line = AuthorizationLine("a1", text, text, "failed", text, text, now, now, 1, text, text)
    event = EventLine("e", now, text, text, text, text, text, 1, 1, {"description": text}, text, False)
    group = GroupLine(text, text, 1, None, 3, 400.0, text, True)
    client = ClientView(
        text, text, "rejected", False, now, text, 401, text, now, 2, 3, now, False, now, [text], ["release"]
    )
    provider = ProviderView(text, True, text, text, 5, None, now, 60, [client], ["release", "accept"])
    trial = TrialView(now, False, text)
    endpoint = EndpointView(
        text, text, [text], "failing", now, now, text, now, 3, now, 1, trial, ["retry", "test", "pause"]
    )
    event_kwargs = {"webhook": text, "event_id": text}
    event_letter = DeadLetterLine("m", text, text, text, event_kwargs, now, text, 0, True, None, text)
    connections = [ConnectionLine(connection(text), text)]
    listed = ConnectionsPage(now, Search(text=text), connections, None, None, True, [text], ["active"], ["held"])
    return {
        "connections.html": {"view": listed, "links": {"older": "?x"}, "is_searched": True},
        "story.html": {"view": story, "days": arrange(story.moments)},
        "disconnect.html": {"view": story},
        "dead-letters.html": {"view": DeadLettersView(now, 2, [letter])},
        "drop.html": {"view": DeadLettersView(now, 2, [letter]), "letter": letter},
        "authorizations.html": {"view": AuthorizationsPage(now, None, text, 0, [line], None, True), "older": None},
        "events.html": {"view": EventsPage(now, None, text, [event], None, True, [text]), "older": None},
        "groups.html": {"view": GroupsView(now, [StreamView(text, 1, [group])])},
        "providers.html": {"view": ProvidersView(now, [provider]), "pictures": {}},
        "webhooks.html": {"view": WebhooksView(now, [endpoint], 3, [event_letter])},
        "accept.html": {"view": ProvidersView(now, [provider]), "provider": provider},
    }


def render(template: str, values: dict[str, Any]) -> str:
    visit = {"form_token": "t", "notice": None}
    frame = {"visit": visit, "root": "../", "place": "connections", "back": "connections"}
    return pages.templates.get_template(template).render({**frame, **values})


@pytest.mark.parametrize("template", views_of(""))
@pytest.mark.parametrize("kind", hostile)
def test_no_text_becomes_markup(template: str, kind: str) -> None:
    page = render(template, views_of(hostile[kind])[template])
    allowed = re.findall(r"<script[^>]*>", page)
    assert allowed == [each for each in allowed if re.search(r'src="\.\./assets/live-[0-9a-f]{12}\.js" defer', each)]
    tags = re.sub(r'"[^"]*"', '""', "".join(re.findall(r"<[a-z][^>]*>", page)))
    assert not re.search(r"\son\w+=|\sstyle=|\sx=|javascript:", tags)


def test_a_text_in_another_direction_turns_nothing_around_it() -> None:
    page = render("connections.html", views_of(turned)["connections.html"])
    assert f"<bdi>{turned}</bdi></a>" in page


@pytest.mark.parametrize("kind", hostile)
def test_the_pages_that_anyone_may_see_escape_too(kind: str) -> None:
    shown = [
        pages.sign_in(SignIn("", hostile[kind], hostile[kind])),
        pages.refuse("", Refusal(409, hostile[kind], hostile[kind])),
    ]
    for each in shown:
        assert script not in bytes(each.body).decode()
        assert quote not in bytes(each.body).decode()
    assert shown[1].status_code == 409


def test_every_asset_has_a_name_that_changes_with_it_and_refers_to_nothing_outside() -> None:
    assert sorted(name.partition("-")[0] for name in pages.assets) == ["icon", "live", "operator"]
    for name, (media_type, content) in pages.assets.items():
        assert media_type.split(";")[0] in ("text/css", "text/javascript", "image/svg+xml"), name
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", content), name
