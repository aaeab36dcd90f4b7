"""What a page of a list would become if it were stored: for someone who writes a provider's profile."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.api_response import ApiOutcome, Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.provider import Provider, Resource
from models.sync.decision import PageRead, StoredParents
from models.sync.page import parse_page
from models.sync.parents import choose_parents
from models.sync.sync_run import SyncList, list_of

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
    parents: of which records it is read for each, in words; empty if it has no parent.
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
    parents: str = ""
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


def describe_parents(resource: Resource, count: int = 0) -> str:
    """Return for which of `count` records a resource is read, in words; empty if it has no parent."""
    if not resource.parent:
        return ""
    return f"{resource.parent}, " + (
        f"the first {resource.most_parents} only" if count > resource.most_parents else "all"
    )


def look_below(
    seen: ResourceSeen, place: SyncList, pages: Sequence[Page], provider: Provider
) -> tuple[ResourceSeen, SyncList]:
    """Return a resource with what the pages of its parents say, and the list of the first one of them; the place of all
    lists if there is none."""
    resource, parent = place.resource, provider.resource(place.resource.parent)
    if parent is None:
        return seen, place
    records = {item.external_id: item.data for page in pages for item in parse_page(page, parent, provider).items}
    path = provider.parent_key_of(resource)
    count = max(len(records), sum(page.total or 0 for page in pages))
    seen = replace(seen, parents=describe_parents(resource, count))
    read = choose_parents(resource, path, StoredParents(ids=tuple(sorted(records)), records=records)).read
    if read:
        return seen, list_of(resource, *read[0])
    fault = f"no {parent.name} has a text or number at {path} (parent_key) that can be in a path"
    return (replace(seen, fault=fault) if records else seen), place


def look_at_page(seen: ResourceSeen, outcome: ApiOutcome, sync_list: SyncList, provider: Provider) -> ResourceSeen:
    """Return the resource with what the answer to the request for its first page says."""
    if not isinstance(outcome, Page):
        return replace(seen, fault=_explain(outcome))
    resource = sync_list.resource
    answer = parse_page(outcome, resource, provider, sync_list.parent)
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
