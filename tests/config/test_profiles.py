from pathlib import Path
from typing import Any

import pytest

from config.profiles import ProfileError, build_provider, override_variables, profile_directories, read_profile
from config.profiles.fields import provider_rules
from models.hook import find_account
from models.provider import Column, Provider, Resource
from models.sync.records import read_item

resource = {"name": "document", "path": "/documents", "paging": "laravel"}
view: dict[str, Any] = {
    "name": "document",
    "resource": "document",
    "columns": [{"name": "id", "path": "id", "type": "integer"}],
}
minimal = {
    "authorize_url": "https://o.example/a",
    "token_url": "https://o.example/t",
    "api_url": "https://o.example/api",
    "resources": [resource],
    "views": [view],
}


HOOKS: dict[str, tuple[dict[str, Any], str]] = {
    "no account": ({}, "webhook.account"),
    "an account that is no path": ({"account": "a..b"}, "webhook.account"),
    "a header that is none": ({"account": "id", "signature_header": "a b"}, "webhook.signature_header"),
    "an algorithm that is none": ({"account": "id", "algorithm": "md5"}, "webhook.algorithm"),
    "nothing that is signed": ({"account": "id", "signed": "x"}, "webhook.signed"),
    "a time that is not signed": (
        {"account": "id", "signature_header": "s", "timestamp_header": "t"},
        "webhook.signed",
    ),
    "a field that is none": ({"account": "id", "signature": "s"}, "webhook.signature: not a known field"),
    "a time that may be years ago": ({"account": "id", "tolerance_seconds": 10**8}, "webhook.tolerance_seconds"),
}


@pytest.mark.parametrize("case", HOOKS)
def test_a_webhook_that_can_not_be_verified_is_named_by_its_field(case: str) -> None:
    table, place = HOOKS[case]
    assert any(place in problem for problem in problems({"webhook": table}))


@pytest.mark.parametrize("field", ["code_seconds", "full_reading_minutes", "grace_seconds", "longest_list"])
def test_a_number_that_no_time_can_be_computed_with_is_named_by_its_field(field: str) -> None:
    assert problems({field: 10**18}) == [f"other.toml: {field}: {provider_rules[field].expected}"]


def test_a_field_of_a_webhook_may_have_a_dot_in_its_name() -> None:
    hook = build_provider("other", "other.toml", minimal | {"webhook": {"account": r"data.account\.id"}}, {}).webhook
    assert hook is not None
    assert find_account(hook, b'{"data": {"account.id": 7}}') == "7"


def breezedoc(**overrides: str) -> Provider:
    return read_profile("breezedoc", overrides, profile_directories())


def problems(change: dict[str, Any], overrides: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ProfileError) as refused:
        build_provider("other", "other.toml", minimal | change, overrides or {})
    return refused.value.problems


def test_breezedoc_speaks_its_dialect() -> None:
    provider = breezedoc()
    assert provider.authorize_url == "https://breezedoc.com/oauth/authorize"
    assert provider.token_url == "https://breezedoc.com/oauth/token"
    assert provider.api_url == "https://api.breezedoc.com/v1"
    assert (provider.revoke_url, provider.issuer) == ("", "")
    assert (provider.scope, provider.refresh_scope) == ("*", "*")
    assert (provider.token_body, provider.client_auth, provider.pkce) == ("json", "body", True)
    assert (provider.refresh_reuse, provider.grace_seconds) == ("harmless", 30)
    assert (provider.token_requests_per_minute, provider.api_requests_per_minute) == (60, 60)
    assert (provider.account_path, provider.account_id, provider.account_email) == ("/me", "id", "email")


@pytest.mark.parametrize(
    ("name", "path", "paging", "per_team"),
    [
        ("account", "/me", "none", False),
        ("document", "/documents", "laravel", False),
        ("template", "/templates", "laravel", False),
        ("recipient", "/recipients", "laravel_resource", False),
        ("invoice", "/invoices", "laravel_resource", False),
        ("team_document", "/teams/{team}/documents", "laravel", True),
        ("team_template", "/teams/{team}/templates", "laravel", True),
    ],
)
def test_breezedocs_resources_are_read_where_they_are(name: str, path: str, paging: str, per_team: bool) -> None:
    found = breezedoc().resource(name)
    assert found is not None
    assert (found.path, found.paging, found.id, found.per_team) == (path, paging, "id", per_team)


def test_a_profile_names_errors_or_gets_the_usual_ones() -> None:
    usual = build_provider("other", "other.toml", minimal, {})
    assert usual.error_aliases["bad_refresh_token"] == "invalid_grant"
    own = build_provider("other", "other.toml", minimal | {"error_aliases": {"gone": "invalid_grant"}}, {})
    assert own.error_aliases == {"gone": "invalid_grant"}


def test_an_alias_of_no_known_error_is_named() -> None:
    [problem] = problems({"error_aliases": {"gone": "invalid_grand"}})
    assert problem.startswith("other.toml: error_aliases.gone: expected one of access_denied, invalid_client")
    assert "error_aliases" in problems({"error_aliases": "gone"})[0]


def test_breezedoc_has_the_promised_views() -> None:
    provider = breezedoc()
    assert [provider.view_name(each) for each in provider.views] == [
        "breezedoc_account",
        "breezedoc_document",
        "breezedoc_recipient",
        "breezedoc_template",
        "breezedoc_invoice",
    ]


def document(*pages: object) -> dict[str, Any]:
    return {"id": 1, "document_files": [{"id": 2, "document_file_pages": list(pages)}]}


def page(path: str, signature: str) -> dict[str, Any]:
    return {
        "id": 3,
        "url": f"https://store.example/{path}?X-Amz-Signature={signature}",
        "thumbs": [f"https://s/{path}?{signature}"],
    }


@pytest.mark.parametrize("name", ["document", "template", "team_document", "team_template"])
@pytest.mark.parametrize(
    ("later", "same"),
    [
        (document(page("1.png", "new")), True),
        (document(page("2.png", "new")), False),
        (document(page("1.png", "new"), page("2.png", "new")), False),
        (document(), False),
    ],
    ids=["signed anew", "another page", "a page added", "a page removed"],
)
def test_a_new_signature_is_no_change_and_another_page_is_one(name: str, later: dict[str, Any], same: bool) -> None:
    found = breezedoc().resource(name)
    assert found is not None
    before, after = (read_item(raw, found.id, found.volatile) for raw in (document(page("1.png", "old")), later))
    assert before is not None
    assert after is not None
    assert (before.content_hash == after.content_hash) is same


def test_a_page_may_be_nothing_but_its_url() -> None:
    found = breezedoc().resource("document")
    assert found is not None
    before, after = (
        read_item(document(f"https://s.example/1?{signature}"), found.id, found.volatile) for signature in "ab"
    )
    assert before == after


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("BREEZEDOC_AUTHORIZE_URL", "http://127.0.0.1:8799/oauth/authorize", "authorize_url", None),
        ("BREEZEDOC_TOKEN_URL", "https://sandbox:8799/oauth/token", "token_url", None),
        ("BREEZEDOC_API_URL", "https://sandbox:8799/api/", "api_url", "https://sandbox:8799/api"),
        ("BREEZEDOC_REVOKE_URL", "https://breezedoc.com/oauth/revoke", "revoke_url", None),
        ("BREEZEDOC_ISSUER", "https://breezedoc.com", "issuer", None),
        ("BREEZEDOC_SCOPE", "documents.read invoices.read", "scope", None),
        ("BREEZEDOC_REFRESH_SCOPE", "", "refresh_scope", ""),
        ("BREEZEDOC_TOKEN_BODY", "form", "token_body", None),
        ("BREEZEDOC_CLIENT_AUTH", "basic", "client_auth", None),
        ("BREEZEDOC_PKCE", "false", "pkce", False),
        ("BREEZEDOC_REFRESH_REUSE", "family_revoked", "refresh_reuse", None),
        ("BREEZEDOC_GRACE_SECONDS", "10", "grace_seconds", 10),
        ("BREEZEDOC_CODE_SECONDS", "60", "code_seconds", 60),
        ("BREEZEDOC_ROTATION_ENDS_ACCESS", "false", "rotation_ends_access", False),
        ("BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE", "600", "token_requests_per_minute", 600),
        ("BREEZEDOC_API_REQUESTS_PER_MINUTE", "120", "api_requests_per_minute", 120),
        ("BREEZEDOC_ACCOUNT_PATH", "/users/me", "account_path", None),
        ("BREEZEDOC_ACCOUNT_ID", "uuid", "account_id", None),
        ("BREEZEDOC_ACCOUNT_EMAIL", "mail", "account_email", None),
    ],
)
def test_any_scalar_is_overridden_by_its_variable(
    variable: str, text: str, field: str, value: int | str | None
) -> None:
    assert override_variables("breezedoc")[variable] == field
    assert getattr(breezedoc(**{variable: text}), field) == (text if value is None else value)


def test_what_a_profile_leaves_out_is_the_cautious_choice() -> None:
    provider = build_provider("other", "other.toml", minimal, {})
    assert (provider.name, provider.pkce, provider.refresh_reuse) == ("other", True, "family_revoked")
    assert provider.resources == (Resource(name="document", path="/documents", paging="laravel"),)
    assert provider.views[0].columns == (Column(name="id", path="id", type="integer"),)


since = {"since_parameter": "since", "since_field": "updated_at"}
below = {"name": "page", "path": "/documents/{parent}/pages", "parent": "document"}
faulty: list[tuple[dict[str, Any], str]] = [
    ({"authorize_url": ""}, "authorize_url"),
    ({"authorize_url": "javascript:alert(1)"}, "authorize_url"),
    ({"token_url": "https://u:p@o.example/t"}, "token_url"),
    ({"token_url": 7}, "token_url"),
    ({"api_url": "https://o.example/api?x=1"}, "api_url"),
    ({"revoke_url": "revoke"}, "revoke_url"),
    ({"issuer": "https://o.example/#x"}, "issuer"),
    ({"scope": "a  b"}, "scope"),
    ({"refresh_scope": 'a"b'}, "refresh_scope"),
    ({"token_body": "xml"}, "token_body"),
    ({"client_auth": "none"}, "client_auth"),
    ({"pkce": "maybe"}, "pkce"),
    ({"refresh_reuse": "fine"}, "refresh_reuse"),
    ({"grace_seconds": -1}, "grace_seconds"),
    ({"code_seconds": 0}, "code_seconds"),
    ({"token_requests_per_minute": 0}, "token_requests_per_minute"),
    ({"api_requests_per_minute": "many"}, "api_requests_per_minute"),
    ({"account_path": "me"}, "account_path"),
    ({"account_path": "/teams/{team}"}, "account_path"),
    ({"account_id": ""}, "account_id"),
    ({"account_email": ""}, "account_email"),
    ({"tokn_url": "https://o.example"}, "tokn_url"),
    ({"name": "more"}, "name"),
    ({"resources": [resource, resource]}, "resources"),
    ({"resources": [resource, "documents"]}, "resources[1]"),
    ({"resources": [resource | {"name": 'a"; DROP'}], "views": []}, "resources[0].name"),
    ({"resources": [resource | {"path": "documents"}]}, "resources[0].path"),
    ({"resources": [resource | {"path": "/{user}/documents"}]}, "resources[0].path"),
    ({"resources": [resource | {"path": "/teams/{team}"}]}, "resources[0].per_team"),
    ({"resources": [resource | {"per_team": True}]}, "resources[0].per_team"),
    ({"resources": [resource | {"paging": "keyset"}]}, "resources[0].paging"),
    ({"resources": [resource | {"paging": "cursor"}]}, "resources[0].cursor"),
    ({"resources": [resource | {"paging": "page", "cursor": "next"}]}, "resources[0].cursor"),
    ({"resources": [resource | {"paging": "cursor", "cursor": "[0].id"}]}, "resources[0].cursor"),
    ({"resources": [resource | {"items": "rows"}]}, "resources[0].paging"),
    ({"resources": [resource | {"paging": "page", "items": "a..b"}]}, "resources[0].items"),
    ({"resources": [resource | {"paging": "page", "peek": "newest=1"}]}, "resources[0].peek"),
    ({"resources": [resource | {"paging": "page", "page_parameter": "a&b"}]}, "resources[0].page_parameter"),
    ({"resources": [resource | {"since_parameter": "since"}]}, "resources[0].since_parameter"),
    ({"resources": [resource | {"since_field": "updated_at"}]}, "resources[0].since_parameter"),
    ({"resources": [resource | since | {"since_field": "a..b"}]}, "resources[0].since_field"),
    ({"resources": [resource | since | {"since_parameter": "a&b"}]}, "resources[0].since_parameter"),
    ({"resources": [resource | since | {"since_overlap": -1}]}, "resources[0].since_overlap"),
    ({"resources": [resource | since | {"peek": "newest=1"}]}, "resources[0].since_parameter"),
    ({"resources": [resource | since | {"paging": "none"}]}, "resources[0].since_parameter"),
    ({"resources": [resource, below | {"parent": "invoice"}]}, "resources[1].parent"),
    ({"resources": [below, resource]}, "resources[0].parent"),
    ({"resources": [resource, below | {"parent": "page"}]}, "resources[1].parent"),
    ({"resources": [resource, below, below | {"name": "line", "parent": "page"}]}, "resources[2].parent"),
    ({"resources": [resource, below | {"path": "/me"}]}, "resources[1].parent"),
    ({"resources": [resource, below | {"path": "/pages"}]}, "resources[1].path"),
    ({"resources": [resource, below | {"path": "/documents-{parent}/pages"}]}, "resources[1].path"),
    ({"resources": [resource, {"name": "page", "path": "/documents/{parent}/pages"}]}, "resources[1].path"),
    ({"resources": [resource, below | {"path": "/teams/{team}/{parent}", "per_team": True}]}, "resources[1].per_team"),
    ({"resources": [resource, below | {"paging": "laravel", "peek": "newest=1"}]}, "resources[1].peek"),
    ({"resources": [resource, below | since | {"paging": "page"}]}, "resources[1].since_parameter"),
    ({"resources": [resource, below | {"parent_key": "a..b"}]}, "resources[1].parent_key"),
    ({"resources": [resource, below | {"most_parents": 0}]}, "resources[1].most_parents"),
    ({"resources": [resource, below | {"most_parents": 1001}]}, "resources[1].most_parents"),
    ({"resources": [resource, below | {"id_scope": "team"}]}, "resources[1].id_scope"),
    ({"resources": [resource | {"id_scope": "parent"}]}, "resources[0].id_scope"),
    ({"resources": [resource | {"parent_key": "slug"}]}, "resources[0].parent_key"),
    ({"resources": [resource | {"paging": "page", "first_page": -1}]}, "resources[0].first_page"),
    ({"resources": [resource | {"paging": "page", "size": 0}]}, "resources[0].size"),
    ({"resources": [resource | {"timeout_seconds": 31}]}, "resources[0].timeout_seconds"),
    ({"resources": [resource | {"requests_per_minute": -1}]}, "resources[0].requests_per_minute"),
    ({"resources": [resource | {"requests_per_minute": "many"}]}, "resources[0].requests_per_minute"),
    ({"resources": [resource | {"api_url": "http://o.example"}]}, "resources[0].api_url"),
    ({"resources": [resource | {"api_url": "https://o.example?a=b"}]}, "resources[0].api_url"),
    ({"auth_scheme": "Basic"}, "auth_scheme"),
    ({"auth_scheme": "two words"}, "auth_scheme"),
    ({"headers": {"Authorization": "x"}}, "headers.Authorization"),
    ({"headers": {"cookie": "x"}}, "headers.cookie"),
    ({"headers": {"X Y": "x"}}, "headers.X Y"),
    ({"headers": {"X-Y": "a\nHost: b"}}, "headers.X-Y"),
    ({"headers": {"X-Y": 1}}, "headers.X-Y"),
    ({"headers": {"X-Y": "a", "x-y": "b"}}, "headers"),
    ({"authorize_parameters": {"state": "x"}}, "authorize_parameters.state"),
    ({"authorize_parameters": {"prompt": "consent"}}, "authorize_parameters.prompt"),
    ({"resources": [resource | {"id": ""}]}, "resources[0].id"),
    ({"resources": [resource | {"id": "a."}]}, "resources[0].id"),
    ({"resources": [resource | {"query": "?a=b"}]}, "resources[0].query"),
    ({"resources": [resource | {"volatile": ["a..b"]}]}, "resources[0].volatile"),
    ({"resources": [resource | {"volatile": ["a[0].b"]}]}, "resources[0].volatile"),
    ({"resources": [resource | {"pageing": "none"}]}, "resources[0].pageing"),
    ({"views": [view, view]}, "views"),
    ({"views": [view | {"name": "Document"}]}, "views[0].name"),
    ({"views": [view | {"resource": "invoice"}]}, "views[0].resource"),
    ({"views": [view | {"columns": []}]}, "views[0].columns"),
    ({"views": [view | {"columns": view["columns"] * 2}]}, "views[0].columns"),
    ({"views": [view | {"columns": [{"name": "a b", "path": "a"}]}]}, "views[0].columns[0].name"),
    ({"views": [view | {"columns": [{"name": "data", "path": "a"}]}]}, "views[0].columns[0].name"),
    ({"views": [view | {"columns": [{"name": "a", "path": "a'b"}]}]}, "views[0].columns[0].path"),
    ({"views": [view | {"columns": [{"name": "a", "path": "a", "type": "uuid"}]}]}, "views[0].columns[0].type"),
    ({"views": [view | {"columns": [{"name": "a", "path": "a", "where": "b"}]}]}, "views[0].columns[0].where"),
    ({"views": [view | {"columns": [{"name": "a", "path": "a", "size": 1}]}]}, "views[0].columns[0].size"),
]
"""Changes that make a good profile a wrong one, each with the place that is named."""


@pytest.mark.parametrize(("change", "where"), faulty, ids=repr)
def test_a_faulty_profile_is_told_by_its_place(change: dict[str, Any], where: str) -> None:
    told = problems(change)
    assert len(told) == 1
    assert told[0].startswith(f"other.toml: {where}: ")


@pytest.mark.parametrize("form", [{"paging": "page"}, {"items": "[]"}])
def test_the_account_is_one_answer(form: dict[str, str]) -> None:
    [problem] = problems({"resources": [{"name": "account", "path": "/me"} | form], "views": []})
    assert problem.startswith("other.toml: resources[0].paging: ")


def test_every_fault_is_told_at_once() -> None:
    assert len(problems({"token_body": "xml", "pkce": "maybe", "unknown": 1})) == 3
    assert len(problems({"scope": "a  b", "grace_seconds": -1, "unknown": 1})) == 3


def test_a_wrong_override_is_told_by_its_variable() -> None:
    assert problems({}, {"OTHER_TOKEN_BODY": "xml"})[0].startswith("OTHER_TOKEN_BODY: ")
    assert problems({}, {"OTHER_GRACE_SECONDS": "-1"})[0].startswith("OTHER_GRACE_SECONDS: ")


WORDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "numbers as texts": ({"grace_seconds": "30"}, ["grace_seconds: expected a whole number"]),
    "true as a number": ({"peek_above": True}, ["peek_above: expected a whole number"]),
    "a part of a number": ({"code_seconds": 1.5}, ["code_seconds: expected a whole number"]),
    "no number": ({"vanishing_share": "half"}, ["vanishing_share: expected a number"]),
    "yes as true": ({"pkce": "yes"}, ["pkce: expected true or false"]),
    "a length as a number": ({"mass_refusal_window": 30}, ["mass_refusal_window: expected a length of time"]),
    "a length of ISO 8601": ({"mass_refusal_window": "PT1H"}, ["mass_refusal_window: expected a length of time"]),
    "a number as text": ({"title": 7}, ["title: expected a text"]),
    "another word": ({"token_body": "xml"}, ["token_body: expected 'json' or 'form'"]),
    "no tables": ({"headers": [1], "webhook": True}, ["headers: expected a table", "webhook: expected a table"]),
    "one table for many": ({"resources": resource, "views": []}, ["resources: expected a list of tables"]),
    "a text for many": (
        {"api_url_alternatives": "https://o.example"},
        ["api_url_alternatives: expected a list of texts"],
    ),
    "in tables, a number and what is missing": (
        {"resources": [{"name": "a", "size": "9"}], "views": []},
        ["resources[0].size: expected a whole number", "resources[0].path: missing"],
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_value_of_another_kind_is_named_with_what_is_expected(case: str) -> None:
    change, expected = WORDS[case]
    said = [problem.removeprefix("other.toml: ") for problem in problems(change)]
    assert [text[: len(begin)] for text, begin in zip(said, expected, strict=True)] == expected


def test_a_variable_is_a_text_and_counts_in_place_of_the_file_s_value() -> None:
    provider = build_provider("other", "other.toml", minimal, {"OTHER_PKCE": "off", "OTHER_PEEK_ABOVE": "7"})
    assert (provider.pkce, provider.peek_above) == (False, 7)
    said = problems({"grace_seconds": "30"}, {"OTHER_GRACE_SECONDS": "-1"})
    assert [problem.partition(": expected")[0] for problem in said] == [
        "other.toml: grace_seconds",
        "OTHER_GRACE_SECONDS",
    ]


UNREADABLE = {
    "absent": None,
    "cut": b"a = ",
    "not UTF-8": b"\xff",
    "twice": b"a = 1\na = 2",
    "nested": b"a = " + b"[" * 3000 + b"]" * 3000,
}


def test_a_mark_of_the_byte_order_is_no_part_of_a_profile(tmp_path: Path) -> None:
    text = (
        'authorize_url = "https://o.example/a"\ntoken_url = "https://o.example/t"\napi_url = "https://o.example/api"\n'
    )
    (tmp_path / "other.toml").write_text(text, "utf-8-sig")
    assert read_profile("other", {}, [tmp_path]).token_url == "https://o.example/t"


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_profile_is_one_problem(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "other.toml").write_bytes(content)
    with pytest.raises(ProfileError) as refused:
        read_profile("other", {}, [tmp_path])
    assert len(refused.value.problems) == 1


def test_a_broken_profile_of_ones_own_is_not_replaced_by_the_one_that_is_shipped(tmp_path: Path) -> None:
    own = tmp_path / "breezedoc.toml"
    for is_link in (True, False):
        own.symlink_to("gone.toml") if is_link else own.mkdir()
        with pytest.raises(ProfileError, match=f"{own}: cannot be read"):
            read_profile("breezedoc", {}, profile_directories(tmp_path))
        own.unlink() if is_link else own.rmdir()
    (tmp_path / "elsewhere.toml").write_bytes((profile_directories()[1] / "breezedoc.toml").read_bytes())
    own.symlink_to("elsewhere.toml")
    assert read_profile("breezedoc", {}, profile_directories(tmp_path)) == breezedoc()


def test_the_working_directory_goes_before_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config/providers").mkdir(parents=True)
    (tmp_path / "config/providers/breezedoc.toml").write_text(
        'authorize_url = "https://o.example/a"\ntoken_url = "https://o.example/t"\napi_url = "https://o.example/api"\n'
    )
    monkeypatch.chdir(tmp_path)
    assert breezedoc().api_url == "https://o.example/api"


@pytest.mark.parametrize(
    ("override", "alternatives"),
    [
        (None, ("https://other.example/api",)),
        ("https://o.example/api/", ("https://other.example/api",)),
        ("https://other.example/api", ("https://o.example/api",)),
        ("http://127.0.0.1:8799/api", ()),
    ],
)
def test_alternatives_belong_to_the_profiles_own_bases(override: str | None, alternatives: tuple[Any, ...]) -> None:
    written = minimal | {"api_url_alternatives": ["https://other.example/api/"]}
    overrides = {} if override is None else {"OTHER_API_URL": override}
    assert build_provider("other", "other.toml", written, overrides).api_url_alternatives == alternatives


def test_an_alternative_that_is_no_url_is_refused() -> None:
    [problem] = problems({"api_url_alternatives": ["ftp://o.example"]})
    assert problem.startswith("other.toml: api_url_alternatives: expected http(s) URLs")
