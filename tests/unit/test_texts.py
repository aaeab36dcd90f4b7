"""What of a provider's text is kept, and what of it no one may see."""

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.crypto.redact import clean_text, hide

secret = "abc+d/e f=%!"

echoes: dict[str, str] = {
    "as it is": secret,
    "percent-encoded": quote(secret, safe=""),
    "in lower case": quote(secret, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
    "as in a path": quote(secret),
    "as in a form": quote_plus(secret),
    "as a browser encodes it": quote(secret, safe="!*'()"),
    "every letter encoded": "".join(f"%{ord(character):02X}" for character in secret),
    "as in JSON": secret.replace("/", "\\/"),
}


@pytest.mark.parametrize("case", echoes)
def test_a_secret_is_hidden_however_it_is_encoded(case: str) -> None:
    echo = echoes[case]
    assert hide(f"no such token: {echo}, nor {echo}", ["other secret", secret]) == (
        "no such token: [secret], nor [secret]"
    )


hidden: dict[str, tuple[str, list[str], str]] = {
    "nothing was sent": ("invalid", [], "invalid"),
    "an empty secret": ("invalid", [""], "invalid"),
    "one within the other": ("a-long-secret!", ["a-long", "a-long-secret"], "[secret]!"),
    "a short one as a word": ("abc is bad", ["abc"], "[secret] is bad"),
    "a short one within a word": ("abcd is bad", ["abc"], "abcd is bad"),
    "another case is another secret": ("SECRET-ONE", ["secret-one"], "SECRET-ONE"),
}


@pytest.mark.parametrize("case", hidden)
def test_nothing_but_the_secrets_is_hidden(case: str) -> None:
    text, secrets, expected = hidden[case]
    assert hide(text, secrets) == expected


@given(st.text(), st.lists(st.text(min_size=6), max_size=3))
def test_no_text_keeps_a_secret(text: str, secrets: list[str]) -> None:
    said = hide(text + "".join(secrets), secrets).replace("[secret]", "")
    assert not any(each in said for each in secrets)


@given(st.text(alphabet=st.characters(), max_size=20))
def test_a_clean_text_can_be_kept_and_is_clean(text: str) -> None:
    cleaned = clean_text(text + "\x00\ud800")
    assert "\x00" not in cleaned
    assert cleaned.encode().decode() == clean_text(cleaned) == cleaned
