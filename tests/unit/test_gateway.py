"""The gateway's rules, as tables: keys, addresses, headers, and whether a token can be used."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.crypto.secrets import Sealed
from models.gateway.access import Access, Ask, Give, Join, has_same_token, is_newer_coming, judge_wait, plan_access
from models.gateway.headers import headers_of_call, leave_unsaid, to_caller, to_provider
from models.gateway.keys import GatewayKey, digest_of, find_key, known_methods, make_secret, parse_gateway_keys
from models.gateway.problems import Problem, ProblemType, Refusal
from models.gateway.target import read_target
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.provider import Provider

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
digest = "ab" * 32
minute = timedelta(minutes=1)

targets = {
    "a list": (b"documents", b"page=2&x=%20a", b"/documents?page=2&x=%20a"),
    "the API itself": (b"", b"", b"/"),
    "a slash at the end": (b"documents/", b"", b"/documents/"),
    "an encoded slash in a name": (b"projects/group%2Fname", b"", b"/projects/group%2Fname"),
    "an encoded percent sign": (b"tags/100%25", b"", b"/tags/100%25"),
    "letters of other scripts": ("ц".encode().hex("%").upper().join(["%", ""]).encode(), b"", b"/%D1%86"),
    "dots in a name": (b"files/..a/.b/c..", b"", b"/files/..a/.b/c.."),
    "an at sign": (b"@evil.example/x", b"", b"/@evil.example/x"),
    "a query that looks like a path": (b"a", b"next=//evil/../x", b"/a?next=//evil/../x"),
}
hostile = {
    "a dot segment": b"../admin",
    "a dot segment inside": b"documents/../../admin",
    "one at the end": b"documents/..",
    "a single dot": b"./admin",
    "encoded dots": b"%2e%2e/admin",
    "half-encoded dots": b".%2E/admin",
    "dots and slash encoded": b"a%2f..%2fb",
    "encoded twice": b"%252e%252e%252fadmin",
    "encoded three times": b"%25252e%25252e/admin",
    "encoded too often": b"%2525252525252525252e",
    "with a parameter": b"..;/admin",
    "an overlong dot": b"%c0%ae%c0%ae/admin",
    "full-width dots": b"%ef%bc%8e%ef%bc%8e/admin",
    "a two-dot leader": b"%e2%80%a5/admin",
    "a backslash": b"..\\admin",
    "an encoded backslash": b"..%5cadmin",
    "two slashes": b"/evil.example/x",
    "two slashes inside": b"a//b",
    "encoded slashes": b"%2f%2fevil.example",
    "an absolute URL": b"http://evil.example/",
    "an absolute URL, encoded": b"http:%2f%2fevil.example/",
    "user information": b"/user@evil.example/",
    "a line end": b"a%0d%0aHost:%20evil",
    "a NUL": b"a%00b",
    "an escape": b"a%1bb",
    "a delete": b"a%7fb",
    "a blank": b"a b",
    "a fragment": b"a#b",
    "a broken escape": b"a%zz",
    "half an escape": b"a%2",
    "a byte that is not ASCII": b"a\xff",
    "not UTF-8": b"a%ff",
    "too long": b"a" * 5000,
}


@pytest.mark.parametrize("case", targets)
def test_an_address_below_the_api_stays_as_it_is(case: str) -> None:
    path, query, target = targets[case]
    assert read_target(path, query) == target


@pytest.mark.parametrize("case", hostile)
def test_an_address_that_may_lead_out_of_the_api_is_refused(case: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_target(hostile[case], b"")
    assert refused.value.problem.type is ProblemType.bad_request


@pytest.mark.parametrize("query", [b"a b", b"a\r\nb", b"a#b", b"\xff", b"a" * 9000])
def test_a_query_that_no_url_has_is_refused(query: bytes) -> None:
    with pytest.raises(Refusal):
        read_target(b"a", query)


def test_a_call_takes_no_header_along_that_is_the_gateway_s_or_of_one_hop() -> None:
    given = [
        *((b"accept", b"a"), (b"content-type", b"c"), (b"x-request-id", b"1"), (b"user-agent", b"u")),
        *((b"authorization", b"Bearer key"), (b"cookie", b"c"), (b"host", b"gateway"), (b"content-length", b"9")),
        *((b"connection", b"close, X-Own"), (b"x-own", b"1"), (b"keep-alive", b"1"), (b"te", b"trailers")),
        *((b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"expect", b"100-continue"), (b"trailer", b"x")),
        *((b"proxy-authorization", b"p"), (b"proxy-connection", b"p"), (b"x-forwarded-for", b"10.0.0.1")),
        *((b"x-forwarded-host", b"h"), (b"forwarded", b"for=1"), (b"via", b"1.1 a"), (b"x-real-ip", b"1")),
        (b"x-http-method-override", b"DELETE"),
    ]
    own = [(b"host", b"api"), (b"authorization", b"Bearer token")]
    kept = [(b"accept", b"a"), (b"content-type", b"c"), (b"x-request-id", b"1"), (b"user-agent", b"u")]
    assert to_provider(given, own) == [*own, *kept]


def test_a_call_has_the_profile_s_headers_and_ours_unless_it_gives_them_itself() -> None:
    provider = Provider(
        name="p", authorize_url="", token_url="", api_url="", headers={"User-Agent": "theirs", "X-Version": "2"}
    )
    usual = provider.headers_with([(b"Accept", b"json"), (b"User-Agent", b"ours")])
    assert usual == [(b"Accept", b"json"), (b"User-Agent", b"theirs"), (b"X-Version", b"2")]
    length = [(b"Content-Length", b"4")]
    assert headers_of_call([(b"x-version", b"3"), (b"cookie", b"c")], usual, b"api", b"Bearer t", length) == [
        (b"Host", b"api"),
        (b"Accept", b"json"),
        (b"User-Agent", b"theirs"),
        (b"Authorization", b"Bearer t"),
        (b"Content-Length", b"4"),
        (b"x-version", b"3"),
    ]


@pytest.mark.parametrize(
    ("given", "accepted"),
    {
        "nothing": ([], [b"application/json"]),
        "what most clients send": ([b"*/*"], [b"application/json"]),
        "anything, weighed": ([b" */* ;q=0.8"], [b"application/json"]),
        "an empty one": ([b""], [b"application/json"]),
        "a type": ([b"application/pdf"], [b"application/pdf"]),
        "a type or anything": ([b"text/csv, */*"], [b"text/csv, */*"]),
        "anything and a type": ([b"*/*", b"text/csv"], [b"*/*", b"text/csv"]),
    }.values(),
    ids=str,
)
def test_a_call_that_accepts_anything_accepts_json_first(given: list[bytes], accepted: list[bytes]) -> None:
    headers = [(b"accept", value) for value in given]
    usual = leave_unsaid(headers, [(b"Accept", b"application/json"), (b"User-Agent", b"u")])
    sent = [(name.lower(), value) for name, value in to_provider(headers, usual)]
    assert sorted(sent) == sorted([*((b"accept", each) for each in accepted), (b"user-agent", b"u")])


def test_an_answer_brings_no_header_back_that_binds_the_caller_to_the_provider_s_host() -> None:
    given = [
        *((b"Content-Type", b"c"), (b"ETag", b"e"), (b"Location", b"/x"), (b"Retry-After", b"3")),
        *((b"Set-Cookie", b"s=1"), (b"Strict-Transport-Security", b"max-age=1"), (b"Alt-Svc", b"h3"), (b"Date", b"d")),
        *((b"Connection", b"X-Own"), (b"X-Own", b"1"), (b"Transfer-Encoding", b"chunked"), (b"Server", b"s")),
        *((b"Proxy-Authenticate", b"p"), (b"Breezesync-Source", b"gateway")),
    ]
    kept = [(b"content-type", b"c"), (b"etag", b"e"), (b"location", b"/x"), (b"retry-after", b"3")]
    assert to_caller(given) == kept


entries = {
    "a name and a hash": (f"a:{digest}", GatewayKey("a", bytes.fromhex(digest))),
    "everything": (
        f"a:{digest};providers=x+y;methods=GET+POST;token",
        GatewayKey("a", bytes.fromhex(digest), frozenset({"x", "y"}), frozenset({"GET", "POST"}), True),
    ),
    "no calls": (f"a:{digest};methods=none;token", GatewayKey("a", bytes.fromhex(digest), None, frozenset(), True)),
}


@pytest.mark.parametrize("case", entries)
def test_an_entry_says_what_a_key_may_do(case: str) -> None:
    text, key = entries[case]
    assert parse_gateway_keys(f" {text} ") == (key,)
    assert key.line() == text


def test_a_name_may_have_two_keys_but_a_key_not_two_entries() -> None:
    assert [key.name for key in parse_gateway_keys(f"a:{digest},a:{'cd' * 32}")] == ["a", "a"]
    with pytest.raises(ValueError, match="different SHA256"):
        parse_gateway_keys(f"a:{digest},b:{digest}")


@pytest.mark.parametrize(
    "entry",
    [
        *("", "a", "a:1", f":{digest}", f"a b:{digest}", f"a:{digest};", f"a:{digest};admin", f"a:{digest};token=yes"),
        *(f"a:{digest};methods=", f"a:{digest};methods=get", f"a:{digest};methods=none+GET", f"a:{digest};methods"),
        *(f"a:{digest};providers=", f"a:{digest};providers=X", f"a:{digest};token;token"),
    ],
)
def test_a_wrong_entry_is_refused_without_being_repeated(entry: str) -> None:
    with pytest.raises(ValueError, match=r"^key 2: expected") as refused:
        parse_gateway_keys(f"b:{'cd' * 32},{entry}")
    assert digest not in str(refused.value)


def test_a_key_is_found_by_its_hash() -> None:
    secret = make_secret().reveal()
    own = GatewayKey("own", digest_of(secret), methods=known_methods)
    keys = (GatewayKey("a", digest_of("a")), own)
    assert [find_key(keys, given) for given in (secret, "a", "b", "", own.digest.hex())] == [
        own,
        keys[0],
        None,
        None,
        None,
    ]


active = Connection(
    "c",
    "ada",
    "p",
    "client",
    "1",
    Status.active,
    noon,
    generation=3,
    expires_at=noon + 10 * minute,
    refresh_due_at=noon + 8 * minute,
)
credential = Credential("c", Sealed("sealed"), None, issued_at=noon - 50 * minute)
usable = Access(connection=active, credential=credential, is_refreshable=True)


def changed(access: Access = usable, **changes: Any) -> Access:
    """Return the access with other values of its own, its connection's or its credential's."""
    own = {name: value for name, value in changes.items() if hasattr(access, name)}
    of_credential = {name: changes[name] for name in changes if name not in own and hasattr(credential, name)}
    of_connection = {name: changes[name] for name in changes if name not in own and hasattr(active, name)}
    of_credential.pop("expires_at", None)
    return replace(
        access,
        connection=replace(active, **of_connection),
        credential=replace(credential, **of_credential),
        **own,
    )


ended = changed(status=Status.revoked, revoked_reason="access_revoked")
dying: dict[str, Any] = {"expires_at": noon + timedelta(seconds=20)}
dead: dict[str, Any] = {"expires_at": noon - timedelta(seconds=1)}
leased: dict[str, Any] = {"lease_until": noon + minute}
presented: dict[str, Any] = {"presented_at": noon, "presented_generation": 3, "refresh_due_at": noon + minute}
just_asked: dict[str, Any] = {"refresh_asked_at": noon - timedelta(seconds=30)}

plans = {
    "lives long enough": (usable, minute, Give()),
    "never expires": (changed(expires_at=None), minute, Give()),
    "lives too short": (usable, 15 * minute, Ask()),
    "expired": (changed(**dead), minute, Ask()),
    "a refresh is due": (changed(**dying, refresh_due_at=noon), minute, Join()),
    "a refresh is under way": (changed(**dying, **leased), minute, Join()),
    "a refresh token was presented": (changed(**dying, **presented), minute, Join()),
    "no token lives so long": (usable, 120 * minute, Ask()),
    "no token lives so long, and half of its life is left": (
        changed(issued_at=noon - 5 * minute),
        16 * minute,
        Give(),
    ),
    "asked for a moment ago": (changed(**dying, **just_asked), minute, Give()),
    "asked for a moment ago, and expired": (changed(**dead, **just_asked), minute, ProblemType.provider_unavailable),
    "nothing refreshes it": (changed(**dying, is_refreshable=False), minute, Give()),
    "nothing refreshes it, and expired": (
        changed(**dead, is_refreshable=False),
        minute,
        ProblemType.reauthorization_required,
    ),
    "revoked": (ended, minute, ProblemType.reauthorization_required),
    "disconnected": (changed(status=Status.disconnected), minute, ProblemType.reauthorization_required),
    "held, and it lives": (changed(problem="held"), minute, Give()),
    "held": (changed(**dying, problem="held"), minute, ProblemType.held),
    "refused, and judged later": (changed(**dying, problem="refused"), minute, ProblemType.held),
    "its breaker is open": (changed(**dying, is_kept_back=True), minute, ProblemType.provider_unavailable),
    "its breaker is open, and it lives": (changed(is_kept_back=True), minute, Give()),
    "limited by its plan": (changed(problem="plan_required", access_limited=True), minute, Give()),
}


def kind_of(plan: object) -> object:
    return plan.type if isinstance(plan, Problem) else plan


@pytest.mark.parametrize("case", plans)
def test_a_token_is_given_refreshed_first_or_can_t_be_had(case: str) -> None:
    access, wanted, expected = plans[case]
    assert kind_of(plan_access(access, wanted, noon)) == expected


waits = {
    "a newer token": (changed(generation=4), Give()),
    "still due": (changed(refresh_due_at=noon), None),
    "under way": (changed(**leased), None),
    "presented": (changed(**presented), None),
    "revoked": (ended, ProblemType.reauthorization_required),
    "held": (changed(problem="held", refresh_due_at=None), ProblemType.held),
    "kept back": (changed(is_kept_back=True, **presented), ProblemType.provider_unavailable),
    "failed": (usable, ProblemType.provider_unavailable),
}


@pytest.mark.parametrize("case", waits)
def test_a_wait_ends_with_a_newer_token_or_when_none_can_come(case: str) -> None:
    access, expected = waits[case]
    assert kind_of(judge_wait(access, 3, noon)) == expected


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (changed(refresh_due_at=noon), True),
        (changed(generation=4), False),
        (ended, False),
        (changed(status=Status.disconnected), False),
        (None, False),
    ],
    ids=["a refresh is due", "refreshed", "revoked", "disconnected", "deleted"],
)
def test_a_token_that_was_read_may_be_given_as_long_as_it_is_its_connection_s(
    current: Access | None, expected: bool
) -> None:
    assert has_same_token(usable, current) == expected


coming = {
    "a newer token": (changed(generation=4), True),
    "due": (changed(refresh_due_at=noon), True),
    "under way": (changed(**leased), True),
    "presented": (changed(**presented), True),
    "neither": (usable, False),
    "revoked": (ended, False),
}


@pytest.mark.parametrize("case", coming)
def test_a_refused_token_is_being_replaced_or_is_not(case: str) -> None:
    access, expected = coming[case]
    assert is_newer_coming(access, 3, noon) is expected


def test_who_has_to_authorize_again_is_sent_to_the_path_of_a_new_link() -> None:
    problem = plan_access(ended, minute, noon, "/sync")
    assert isinstance(problem, Problem)
    assert (problem.connect_path, problem.body()["connect_path"]) == ("/sync/auth/p", "/sync/auth/p")


def test_a_problem_names_whole_seconds_to_wait() -> None:
    problem = Problem(ProblemType.held, "", timedelta(seconds=0.2))
    assert problem.all_headers() == {"Retry-After": "1"}
    assert replace(problem, retry_after=timedelta(seconds=2.5)).all_headers() == {"Retry-After": "3"}
