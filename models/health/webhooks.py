"""Judge the endpoints that events are sent to over HTTP."""

from collections.abc import Iterator, Mapping, Sequence

from models.health.finding import Finding
from models.webhooks.endpoint import Endpoint


def judge_webhooks(endpoints: Sequence[Endpoint], dead: Mapping[str, int]) -> Iterator[Finding]:
    """Judge the endpoints that get no events, or did not take some; `dead` counts dead letters by an endpoint's id."""
    for each in endpoints:
        if each.is_gone:
            said = f"the endpoint {each.name} answered 410: nothing is sent to it"
            remedy = f"breezesync webhooks resume {each.name}, or breezesync webhooks remove {each.name}"
            yield Finding("webhooks", "warn", said, remedy)
        elif each.paused_at is not None:
            said = f"the endpoint {each.name} is paused: its events wait"
            yield Finding("webhooks", "warn", said, f"breezesync webhooks resume {each.name}")
        elif each.failing_since is not None:
            said = f"the endpoint {each.name} has failed since {each.failing_since:%Y-%m-%d %H:%M} UTC ({each.error})"
            yield Finding("webhooks", "warn", said, f"Mend {each.url}, then breezesync webhooks test {each.name}.")
        if dead.get(each.id):
            said = f"{dead[each.id]} events for the endpoint {each.name} were given up after three days"
            yield Finding("webhooks", "warn", said, "breezesync dead-letters, then breezesync dead-letters retry --all")
    if endpoints and all(each.state == "active" and not dead.get(each.id) for each in endpoints):
        yield Finding("webhooks", "ok", f"events are sent to {', '.join(each.name for each in endpoints)}")
