"""Redirects back from a provider that names its issuer, and those that carry no state."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from models.oauth.authorization import Authorization, Step, flow_of, state_of
from tests.harness import House
from worker.web.callback import Callback
from worker.web.refusal import Refused

issuer = "https://issuer.example"


def begin(house: House, callback: Callback, user: str = "ada") -> tuple[str, Mapping[str, str]]:
    """Open a link: the state, and what the browser's cookies say."""
    begun = callback.begin("breezedoc", house.link(user), {})
    return state_of(begun.binding), {begun.flow: begun.binding}


def finish(callback: Callback, query: Mapping[str, str], bindings: Mapping[str, str]) -> Authorization | int:
    """The authorization, or the status of the refusal."""
    try:
        return callback.finish("breezedoc", query, bindings)
    except Refused as refused:
        return refused.status


@pytest.mark.parametrize("given", [{}, {"iss": ""}, {"iss": "https://evil.example"}], ids=["none", "empty", "another"])
@pytest.mark.parametrize("answer", [{"code": "c"}, {"error": "access_denied"}], ids=["code", "error"])
def test_without_the_issuer_that_the_profile_names_a_redirect_changes_nothing(
    house: House, given: Mapping[str, str], answer: Mapping[str, str]
) -> None:
    callback = replace(house.callback, providers={"breezedoc": replace(house.profile, issuer=issuer)})
    state, bindings = begin(house, callback)
    assert finish(callback, {"state": state, **answer, **given}, bindings) == 403
    right = callback.finish("breezedoc", {"state": state, "code": "c", "iss": issuer}, bindings)
    assert right.step is Step.received


def test_a_provider_without_an_issuer_needs_to_name_none(house: House) -> None:
    state, bindings = begin(house, house.callback)
    assert house.callback.finish("breezedoc", {"state": state, "code": "c"}, bindings).step is Step.received


def test_a_refused_scope_without_a_state_ends_one_flow_and_repeats_no_word_of_it(house: House) -> None:
    _, first = begin(house, house.callback)
    _, second = begin(house, house.callback)
    _, others = begin(house, house.callback, "mallory")
    query = {
        "error": "invalid_scope",
        "error_description": "Call 555-0100 at once",
        "error_uri": "https://evil.example",
    }
    assert finish(house.callback, query, {}) == 403
    ended = house.callback.finish("breezedoc", query, {**first, **second})
    assert flow_of(ended.state_hash) in second
    assert (ended.step, ended.reason) == (Step.failed, "client_rejected")
    assert ended.description == "the provider answered invalid_scope"
    with house.store.reading() as tx:
        started = tx.authorizations.find(None, Step.started, 10)
    assert {flow_of(each.state_hash) for each in started} == {*first, *others}


@pytest.mark.parametrize("error", ["access_denied", "server_error", "unauthorized_client", "invalid_request"])
def test_no_other_error_without_a_state_ends_a_flow(house: House, error: str) -> None:
    state, bindings = begin(house, house.callback)
    assert finish(house.callback, {"error": error}, bindings) == 403
    assert house.callback.finish("breezedoc", {"state": state, "code": "c"}, bindings).step is Step.received
