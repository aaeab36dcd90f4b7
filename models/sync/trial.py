"""What a page of a list would become if it were stored: for someone who writes a provider's profile."""

from dataclasses import dataclass, replace

from models.api_response import ApiOutcome, Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.provider import Provider, Resource
from models.sync.decision import PageRead
from models.sync.page import parse_page

most_shown = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSeen:
    """A resource as a profile describes it, and what its first page has if it was read.

    url: of its first page.
    paging, items, id: the profile's; `items` in words.
    records: how many records the page has; None if it was not read.
    nameless: how many of its elements have no id.
    ids, fields: the first ids, and the names of the fields of all records.
    total: how many records its list has, if the provider says so.
    goes_on: whether there is another page.
    since: how it is read incrementally, in words; empty if it is not.
    requests_per_minute: the limit that it has of its own; 0 if there is none.
    fault: what is wrong; None if nothing is.
    """

    resource: str
    url: str
    paging: str
    items: str
    id: str
    records: int | None = None
    nameless: int = 0
    ids: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    total: int | None = None
    goes_on: bool = False
    since: str = ""
    requests_per_minute: int = 0
    fault: str | None = None


def describe_items(resource: Resource) -> str:
    """Return where the records of a resource are, in words."""
    if resource.is_laravel:
        return "data"
    if resource.paging == "none" and not resource.items:
        return "the body, or the object in its data"
    return "the body" if resource.items in ("", "[]") else resource.items


def describe_since(resource: Resource) -> str:
    """Return how a resource is read incrementally, in words; empty if it is not."""
    if not resource.since_parameter:
        return ""
    return f"{resource.since_parameter} from {resource.since_field}, less {resource.since_overlap}"


def look_at_page(seen: ResourceSeen, outcome: ApiOutcome, resource: Resource, provider: Provider) -> ResourceSeen:
    """Return the resource with what the answer to the request for its first page says."""
    if not isinstance(outcome, Page):
        return replace(seen, fault=_explain(outcome))
    answer = parse_page(outcome, resource, provider)
    named = {name for item in answer.items for name in item.data}
    return replace(
        seen,
        records=len(answer.items),
        nameless=answer.seen.nameless,
        ids=answer.seen.ids[:most_shown],
        fields=tuple(sorted(named)),
        total=answer.seen.total,
        goes_on=outcome.last > outcome.number,
        fault=_find_fault(answer, resource, provider),
    )


def _explain(outcome: Unauthorized | Forbidden | Missing | Throttled | Failed) -> str:
    """Return what an answer without a page means."""
    match outcome:
        case Unauthorized():
            return "HTTP 401: the access token is not good, or its auth_scheme is another one"
        case Forbidden():
            return "HTTP 403: the account's plan or the token's scope does not include it"
        case Missing():
            return "HTTP 404: there is nothing at this path"
        case Throttled(retry_after):
            return f"too many requests: try again in {retry_after.total_seconds():.0f} s"
        case Failed(why):
            return why


def _find_fault(answer: PageRead, resource: Resource, provider: Provider) -> str | None:
    if resource.path == provider.account_path and answer.account_id is None:
        return f"it names no account: there is no text or number at {provider.account_id} (account_id)"
    if answer.seen.nameless:
        return f"{answer.seen.nameless} of its elements have no text or number at {resource.id} (id)"
    if resource.since_field and answer.seen.ids and answer.seen.newest is None:
        expected = "expected whole numbers or ISO times with seconds, and one kind of them"
        return f"it can't be read incrementally by {resource.since_field} (since_field): {expected}"
    return None
