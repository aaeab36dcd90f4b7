from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Key, KeyMissing, KeysRejected, Place, SealBroken, Vault, key_id, new_key, parse_keys

here = Place("credential", "c1", "refresh_token")
old, new = new_key("old"), new_key("new")
material = b64encode(bytes(range(32))).decode()


@given(st.text())
def test_what_was_sealed_opens_to_the_same_text(text: str) -> None:
    vault = Vault((new,))
    assert vault.open(vault.seal(Secret(text), here), here) == Secret(text)


def test_half_a_surrogate_pair_survives_the_vault() -> None:
    vault = Vault((new,))
    assert vault.open(vault.seal(Secret("a\ud800"), here), here).reveal() == "a\ud800"


def test_a_sealed_text_names_its_key_and_hides_its_secret() -> None:
    sealed = Vault((new, old)).seal(Secret("hunter2"), here)
    version, used, body = sealed.text.split(".")
    assert (version, used, key_id(sealed)) == ("v1", "new", "new")
    assert len(urlsafe_b64decode(body + "=" * (-len(body) % 4))) == 12 + len("hunter2") + 16
    assert b"hunter2" not in urlsafe_b64decode(body + "=" * (-len(body) % 4))


def test_the_same_secret_sealed_twice_gives_two_texts() -> None:
    vault = Vault((new,))
    assert vault.seal(Secret("a"), here) != vault.seal(Secret("a"), here)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("authorization", "c1", "refresh_token"),
        Place("credential", "c2", "refresh_token"),
        Place("credential", "c1", "access_token"),
        Place("credentialc1", "", "refresh_token"),
        Place("credential", "c1refresh_token", ""),
        Place('credential", "c1', "", "refresh_token"),
    ],
    ids=repr,
)
def test_a_sealed_text_opens_in_no_other_place(elsewhere: Place) -> None:
    vault = Vault((new,))
    sealed = vault.seal(Secret("a"), here)
    with pytest.raises(SealBroken):
        vault.open(sealed, elsewhere)


def test_no_altered_byte_goes_unnoticed() -> None:
    vault = Vault((new,))
    text = vault.seal(Secret("hunter2"), here).text
    prefix, body = text.rsplit(".", 1)
    raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
    for position in range(len(raw)):
        altered = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(SealBroken):
            vault.open(Sealed(f"{prefix}.{urlsafe_b64encode(altered).decode().rstrip('=')}"), here)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "v1.new",
        "v1.new.",
        "v1..AAAA",
        "v2.new." + "A" * 44,
        "v1.new.AAAA",
        "v1.new.?",
        "v1.n w." + "A" * 44,
        "v1.new.AAAAA",
        "v1.new." + "A" * 16,
        "v1.new." + "A" * 44 + "\n",
        "x v1.new." + "A" * 44,
    ],
)
def test_what_is_no_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(SealBroken) as refused:
        Vault((new,)).open(Sealed(text), here)
    assert "hunter2" not in str(refused.value)


def test_every_key_of_the_ring_opens_and_the_first_one_seals() -> None:
    before = Vault((old,)).seal(Secret("a"), here)
    ring = Vault((new, old))
    assert ring.open(before, here) == Secret("a")
    assert ring.needs_resealing(before)
    assert not ring.needs_resealing(ring.seal(Secret("a"), here))


def test_a_missing_key_is_named_with_the_remedy() -> None:
    sealed = Vault((old,)).seal(Secret("a"), here)
    with pytest.raises(KeyMissing, match=r"'old'.*ENCRYPTION_KEYS") as missing:
        Vault((new,)).open(sealed, here)
    assert missing.value.key_id == "old"


def test_another_key_of_the_same_id_does_not_open() -> None:
    sealed = Vault((old,)).seal(Secret("a"), here)
    with pytest.raises(SealBroken):
        Vault((new_key("old"),)).open(sealed, here)


@pytest.mark.parametrize("keys", [(), (old, old)], ids=["none", "twice the same id"])
def test_a_vault_refuses_an_unusable_ring(keys: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="vault"):
        Vault(keys)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a:b", "a,b", "x" * 33, "é", "a\n"])
def test_a_key_has_a_plain_id(name: str) -> None:
    with pytest.raises(ValueError, match="id"):
        new_key(name)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (f"k1:{material}", ("k1",)),
        (f" k1 : {material} , 2026-11_b:{b64encode(bytes(range(9, 41))).decode()}\n", ("k1", "2026-11_b")),
        (f"k1:{material.rstrip('=')}", ("k1",)),
        ("k1:" + urlsafe_b64encode(bytes(range(224, 256))).decode(), ("k1",)),
    ],
    ids=["one", "two with blanks", "without padding", "URL-safe"],
)
def test_keys_are_read_in_their_order(text: str, ids: tuple[str, ...]) -> None:
    keys = parse_keys(text)
    assert tuple(key.id for key in keys) == ids
    assert Vault(keys).seal(Secret("a"), here).text.startswith(f"v1.{ids[0]}.")


def test_a_new_key_is_read_back_from_its_line() -> None:
    key = new_key("k1")
    assert parse_keys(key.line().reveal()) == (key,)
    assert repr(key) == "Key(id='k1', material=***)"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", 2),
        ("k1", 1),
        (material, 2),
        (f"k1:{material},", 2),
        (f"k1:{material[:-4]}", 1),
        (f"k1:{material}AAAA", 1),
        ("k1:not base64!", 1),
        (f"k1:{material}é", 1),
        (f"{material}:k1", 2),
        (f"a b:{material}", 1),
        (f"k1:{material},k1:{material}", 1),
        (f"k1:{material[:-4]},k1:***,:{material}", 4),
    ],
)
def test_every_problem_with_keys_is_told_and_no_key(text: str, problems: int) -> None:
    with pytest.raises(KeysRejected) as rejected:
        parse_keys(text)
    assert len(rejected.value.problems) == problems
    assert material[:10] not in str(rejected.value)


def test_keys_made_by_hand_are_veiled_too() -> None:
    assert material not in repr(Key("k1", Secret(material)))
