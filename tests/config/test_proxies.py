"""Proxy variables: what is understood, what is refused and by which name, and which request goes where."""

from pathlib import Path

import pytest

from config.environment import SettingsError
from config.proxies import check_proxies, find_proxies
from config.settings import read_settings
from models.proxies import Proxies, has_socks, read_proxies

good_proxies = [
    "http://proxy:3128",
    "http://proxy.example.com:3128/",
    "https://proxy.example.com",
    "http://user:p%40ss@10.0.0.1:8080",
    "http://user@[fd00::1]:3128",
    "proxy:3128",
    "proxy",
    "10.0.0.1:3128",
    "HTTP://proxy",
]


@pytest.mark.parametrize("url", good_proxies)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_understood(name: str, url: str) -> None:
    assert check_proxies({name: url}) == []


bad_proxies = {
    "another scheme": "foo://proxy",
    "SOCKS of another version": "socks4://proxy",
    "nothing but a scheme": "http://",
    "a port that is none": "http://proxy:port",
    "a port too large": "http://proxy:99999",
    "port zero": "http://proxy:0",
    "an address that is none": "http://300.1.1.1:3128",
    "half a bracket": "http://[fd00::1",
    "a blank": "http://pro xy",
    "a path": "http://proxy/path",
    "a slash in the password": "http://user:se/cret@proxy",
    "a sign that is no ASCII": "http://próxy:3128",
    "a control sign": "http://proxy\x00:1",
}


@pytest.mark.parametrize("case", bad_proxies)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_can_not_be_used_is_named_without_its_value(name: str, case: str) -> None:
    [problem] = check_proxies({name: bad_proxies[case]})
    assert problem.startswith(f"{name}: expected http://")
    assert "se/cret" not in problem


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "socks5h://proxy:1080"])
def test_socks_needs_its_package(url: str) -> None:
    without, problems = read_proxies({"ALL_PROXY": url}, has_socks=False)
    assert problems == [
        'ALL_PROXY: expected an http or https proxy; SOCKS needs another package: pip install "httpx[socks]"'
    ]
    assert without.find("https", "example.com", None) is None
    found, none = read_proxies({"ALL_PROXY": url}, has_socks=True)
    assert none == []
    assert reveal(found, "https", "example.com") == url
    assert bool(check_proxies({"ALL_PROXY": url})) is not has_socks()


def reveal(proxies: Proxies, scheme: str, host: str, port: int | None = None) -> str | None:
    found = proxies.find(scheme, host, port)
    return None if found is None else found.reveal()


def test_each_scheme_has_its_proxy_and_small_letters_come_first() -> None:
    found = find_proxies(
        {"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:2", "https_proxy": " ", "HTTPS_PROXY": "c:3"}
    )
    assert reveal(found, "http", "example.com") == "http://b:2"
    assert reveal(found, "https", "example.com") == "http://c:3"
    everything = find_proxies({"ALL_PROXY": "http://d:4", "HTTP_PROXY": "http://a:1"})
    assert [reveal(everything, scheme, "example.com") for scheme in ("http", "https")] == ["http://a:1", "http://d:4"]
    assert find_proxies({}).find("https", "example.com", None) is None


def test_a_proxy_s_password_is_not_shown() -> None:
    assert "secret" not in repr(find_proxies({"HTTPS_PROXY": "http://user:secret@proxy"}))


exceptions: dict[str, tuple[str, str, int | None, bool]] = {
    "everything": ("*", "example.com", None, True),
    "everything, among others": ("a.example, *", "10.1.2.3", None, True),
    "a domain itself": ("example.com", "example.com", None, True),
    "a host of a domain": ("example.com", "api.example.com", None, True),
    "a name that only ends so": ("example.com", "badexample.com", None, False),
    "a dot before a domain": (".example.com", "api.example.com", None, True),
    "a dot before a domain, the domain itself": (".example.com", "example.com", None, False),
    "a star before a domain": ("*.example.com", "a.b.example.com", None, True),
    "a star in the middle": ("api.*.example.com", "api.eu.example.com", None, True),
    "capitals": ("EXAMPLE.com", "Example.Com", None, True),
    "a dot at the end": ("example.com.", "example.com", None, True),
    "localhost": ("localhost,127.0.0.1", "localhost", 8000, True),
    "an address": ("127.0.0.1", "127.0.0.1", 8000, True),
    "another address": ("127.0.0.1", "127.0.0.2", None, False),
    "a network": ("10.0.0.0/8", "10.200.1.2", None, True),
    "a network from one of its hosts": ("192.168.1.7/24", "192.168.1.9", None, True),
    "a name in a network": ("10.0.0.0/8", "ten.example.com", None, False),
    "a network of IPv6": ("localhost,fd00::/8", "fd12::1", None, True),
    "another network of IPv6": ("localhost,fd00::/8", "2001:db8::1", None, False),
    "an address of IPv6": ("::1", "::1", None, True),
    "an address of IPv6 in brackets": ("[::1]", "::1", 443, True),
    "a network of IPv6 in brackets": ("[fd00::]", "fd00::", None, True),
    "a port": ("example.com:8443", "example.com", 8443, True),
    "another port": ("example.com:8443", "example.com", None, False),
    "the usual port": ("example.com:443", "example.com", None, True),
    "a port of IPv6": ("[::1]:443", "::1", 444, False),
    "a scheme": ("https://example.com", "example.com", None, True),
    "another scheme": ("http://example.com", "example.com", None, False),
    "blanks between": ("a.example example.com", "example.com", None, True),
    "commas too many": (",,example.com,", "example.com", None, True),
    "nothing": (" ", "example.com", None, False),
}


@pytest.mark.parametrize("case", exceptions)
def test_an_exception_sends_its_hosts_directly(case: str) -> None:
    text, host, port, direct = exceptions[case]
    environ = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": text}
    assert check_proxies(environ) == []
    assert (find_proxies(environ).find("https", host, port) is None) is direct


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0/33", "fd00::/129", "example.com:port", "[::1", "<local>", "a/b", "exämple.com", "300.1.1.1", "::g"],
)
def test_an_exception_that_is_none_is_named(text: str) -> None:
    [problem] = check_proxies({"NO_PROXY": f"localhost,{text}"})
    assert problem == "NO_PROXY: expected *, or hosts, domains, addresses and networks, comma-separated"


def test_proxies_are_settings_like_others() -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"HTTPS_PROXY": "foo://proxy", "no_proxy": "fd00::/200"}, None, needs=())
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["HTTPS_PROXY", "no_proxy"]
    settings = read_settings({"HTTPS_PROXY": "http://proxy:3128"}, None, needs=())
    assert reveal(settings.proxies, "https", "example.com") == "http://proxy:3128"


def test_a_proxy_with_a_password_may_come_from_a_file_or_the_env_file(tmp_path: Path) -> None:
    secret, env_file = tmp_path / "proxy", tmp_path / ".env"
    secret.write_text("http://user:word@proxy:3128\n")
    env_file.write_text("NO_PROXY=10.0.0.0/8\n")
    settings = read_settings({"HTTPS_PROXY_FILE": str(secret)}, env_file, needs=())
    assert reveal(settings.proxies, "https", "example.com") == "http://user:word@proxy:3128"
    assert reveal(settings.proxies, "https", "10.1.1.1") is None
