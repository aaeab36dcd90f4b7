from base64 import b64encode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from models.crypto.secrets import Secret
from models.crypto.vault import Key, KeysRejected, Place, Vault, new_key, parse_keys, parse_sealing_key

here = Place("credential", "c1", "refresh_token", 7)
material = b64encode(bytes(range(32))).decode()


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


def test_a_sealing_key_is_read_back_from_its_line_and_shows_no_key_of_the_ring() -> None:
    key = Key("k1", Secret(material))
    line = key.sealing_key.line()
    assert parse_sealing_key(line) == key.sealing_key
    assert key.sealing_key.public not in (key.wrapping_key(), bytes(range(32)))
    raw = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
    assert key.sealing_key.public != raw, "derived, not used as it is"


@pytest.mark.parametrize("text", ["", "k1", f"k1:{material[:-4]}", f"k1:{material},k2:{material}"])
def test_what_is_no_sealing_key_is_refused(text: str) -> None:
    with pytest.raises(KeysRejected):
        parse_sealing_key(text)
