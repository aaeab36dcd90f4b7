"""What a provider's profile means, tried with an access token: one page of each list is read and nothing is stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from models.account import read_account
from models.api_response import ApiOutcome, Page
from models.crypto.secrets import Secret
from models.journal import Request
from models.paging.page_format import PageAsked
from models.provider import Provider
from models.rate_limit import Wait
from models.sync.sync_run import SyncList, plan_lists
from models.sync.trial import (
    ResourceSeen,
    describe_items,
    describe_parents,
    describe_since,
    look_at_page,
    look_below,
)
from worker.provider.client import Called, ProviderClient, find_page_url


@dataclass(slots=True)
class Trial:
    """Reads the first page of each list with one token; of a resource that has parents, that of one of them.

    `log` has the requests that were made, `pages` what was read, by resource.
    """

    client: ProviderClient
    token: Secret
    team_ids: Sequence[int] = ()
    log: list[Request] = field(default_factory=list)
    pages: dict[str, list[Page]] = field(default_factory=dict)

    def __call__(self, subject: str, account_id: str | None = None) -> Iterator[ResourceSeen]:
        """Yield each list as it is seen; only the account if that can't be read, or is not the one of this id.

        The request log has the requests under `subject`. They count against its limits.
        """
        provider = self.client.provider
        own = provider.account_resource
        called = self.client.read_account(self.token, account_id)
        self.log += called.log_for(subject)
        account = read_account(provider, called.outcome)
        seen = self._look(SyncList(own, own.path, own.name), called)
        if account is not None and account_id not in (None, account.id):
            seen = replace(seen, fault="it names another account than the connection's")
        yield seen
        if account is None or seen.fault is not None:
            return
        allowance = self.client.allow(account.id)
        lists = [each for each in plan_lists(provider, self.team_ids) if each.resource.path != own.path]
        allowance.wanted = max(len(lists), 1)
        try:
            for place in lists:
                seen, each = look_below(
                    describe(provider, place), place, self.pages.get(place.resource.parent, []), provider
                )
                if each.needs_parents:
                    yield seen
                    continue
                page = self.client.read_page(each.resource, each.path, PageAsked(), self.token, allowance)
                if isinstance(page, Wait):
                    fault = f"the rate limit leaves no room: try again in {page.seconds:.0f} s"
                    yield replace(describe(provider, each), fault=fault)
                    return
                self.log += page.log_for(subject)
                yield replace(self._look(each, page), parents=seen.parents)
        finally:
            allowance.settle()

    def _look(self, sync_list: SyncList, called: Called[ApiOutcome]) -> ResourceSeen:
        """Return a list as its first page shows it, and keep the page for the resources that it is a parent of."""
        provider, outcome = self.client.provider, called.outcome
        if isinstance(outcome, Page):
            self.pages.setdefault(sync_list.resource.name, []).append(outcome)
        seen = look_at_page(describe(provider, sync_list), outcome, sync_list, provider)
        return replace(seen, fault=f"no answer ({seen.fault})") if called.status == 0 else seen


def describe_all(provider: Provider) -> list[ResourceSeen]:
    """Return each resource as the profile describes it: `{team}` or `{parent}` stay in the URLs of what is read for
    each of them."""
    return [describe(provider, SyncList(each, each.path, each.name)) for each in provider.resources]


def describe(provider: Provider, sync_list: SyncList) -> ResourceSeen:
    """Return a list as the profile describes it."""
    resource = sync_list.resource
    url = str(find_page_url(provider, resource, sync_list.path, PageAsked()))
    return ResourceSeen(
        resource=sync_list.key,
        url=url.replace("%7Bteam%7D", "{team}").replace("%7Bparent%7D", "{parent}"),
        paging=resource.paging,
        items=describe_items(resource),
        id=resource.id,
        since=describe_since(resource),
        parents=describe_parents(resource),
        requests_per_minute=resource.requests_per_minute,
    )
