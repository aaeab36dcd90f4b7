from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.crypto.rotation import reseal
from models.crypto.sealed_text import prefix_of
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import KeyMissing, Place, SealBroken, Sealer, Vault, key_id, new_key

here = Place("authorization", "c1", "code", 7)
old, new = new_key("old"), new_key("new")
Seal = Callable[[str, Place], Sealed]
seals: dict[str, Seal] = {
    "by a data key": lambda text, place: Vault((new,)).seal(Secret(text), place),
    "to a public key": lambda text, place: Sealer(new.sealing_key).seal(Secret(text), place),
}
either = pytest.mark.parametrize("seal", seals.values(), ids=seals)


@either
@given(text=st.text())
def test_what_was_sealed_opens_to_the_same_text(seal: Seal, text: str) -> None:
    assert Vault((new,)).open(seal(text, here), here) == Secret(text)


@either
def test_half_a_surrogate_pair_survives_the_vault(seal: Seal) -> None:
    assert Vault((new,)).open(seal("a\ud800", here), here).reveal() == "a\ud800"


@either
def test_a_sealed_text_names_its_key_and_hides_its_secret(seal: Seal) -> None:
    sealed = seal("hunter2", here)
    assert (key_id(sealed), prefix_of(sealed)[2:]) == ("new", ".new.")
    for part in sealed.text.split(".")[2:]:
        assert b"hunter2" not in read(part)


@either
def test_the_same_secret_sealed_twice_gives_two_texts(seal: Seal) -> None:
    first, second = (seal("a", here).text.split(".")[2:] for _ in range(2))
    assert not set(first) & set(second)


elsewhere: dict[str, Place] = {
    "another table": replace(here, table="credential"),
    "another row": replace(here, row="c2"),
    "another field": replace(here, field="verifier"),
    "a later generation": replace(here, generation=8),
    "an earlier generation": replace(here, generation=6),
    "no generation": replace(here, generation=None),
    "table and row run together": Place("authorizationc1", "", "code", 7),
    "row and field run together": Place("authorization", "c1code", "", 7),
    "field and generation run together": Place("authorization", "c1", "code7"),
    "quotes": Place('authorization", "c1', "", "code", 7),
}


@either
@pytest.mark.parametrize("place", elsewhere.values(), ids=elsewhere)
def test_a_sealed_text_opens_in_no_other_place_and_for_no_other_generation(seal: Seal, place: Place) -> None:
    with pytest.raises(SealBroken):
        Vault((new,)).open(seal("a", here), place)


@either
def test_no_altered_byte_goes_unnoticed(seal: Seal) -> None:
    vault, parts = Vault((new,)), seal("hunter2", here).text.split(".")
    for number in range(2, len(parts)):
        raw = read(parts[number])
        for position in range(len(raw)):
            altered = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
            text = ".".join([*parts[:number], write(altered), *parts[number + 1 :]])
            with pytest.raises(SealBroken):
                vault.open(Sealed(text), here)


@either
def test_the_same_bytes_written_in_another_way_do_not_open(seal: Seal) -> None:
    text = next(text for text in (seal("a" * n, here).text for n in range(1, 9)) if len(text.rsplit(".", 1)[1]) % 4)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    with pytest.raises(SealBroken):
        Vault((new,)).open(Sealed(text[:-1] + alphabet[alphabet.index(text[-1]) + 1]), here)


@either
@given(data=st.data())
def test_no_altered_text_opens(seal: Seal, data: st.DataObject) -> None:
    """Cut, swapped, repeated or replaced: whatever is done to a text or its neighbour, neither opens as the other."""
    one, other = seal("one", here).text, seal("other", replace(here, generation=8)).text
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(one))] * 2)))
    piece = data.draw(st.sampled_from([other[start:end], "", one[start:end] * 2, "A"]) | st.text(max_size=4))
    mixed = one[:start] + piece + one[end:]
    try:
        assert (Vault((new,)).open(Sealed(mixed), here).reveal(), mixed) == ("one", one)
    except SealBroken:
        assert mixed != one
    except KeyMissing:
        assert not mixed.startswith(prefix_of(Sealed(one)))


@pytest.mark.parametrize("place", [Place("credential", "c1", "refresh_token", 7), Place("client", "p/c", "secret")])
def test_a_public_key_seals_no_token(place: Place) -> None:
    """Whoever took it from the web process can seal, and write into the database, whatever they like."""
    forged = Sealer(new.sealing_key).seal(Secret("mine"), place)
    with pytest.raises(SealBroken, match="public key"):
        Vault((new,)).open(forged, place)


def test_the_data_key_of_one_text_opens_no_other() -> None:
    first, second = (Vault((new,)).seal(Secret("a"), here).text.split(".") for _ in range(2))
    swapped = ".".join([*first[:2], second[2], first[3]])
    with pytest.raises(SealBroken):
        Vault((new,)).open(Sealed(swapped), here)


def read(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def write(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "v1.new",
        "v1.new.",
        "v1.new.AAAA",
        "v1.new..AAAA",
        "v1.new.AAAA.",
        "v1..AAAA.AAAA",
        "v2.new." + "A" * 44 + ".AAAA",
        "v1.new.AAAA.AAAA",
        "v1.new.?.AAAA",
        "v1.n w." + "A" * 44 + ".AAAA",
        "v1.new.AAAAA.AAAAA",
        "v1.new." + "A" * 80 + "." + "A" * 44,
        "v1.new." + "A" * 80 + "." + "A" * 44 + "\n",
        "h1.new",
        "h1.new.AAAA",
        "h1.new." + "A" * 80,
        "h1.new." + "A" * 80 + ".AAAA",
    ],
)
def test_what_is_no_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(SealBroken) as refused:
        Vault((new,)).open(Sealed(text), here)
    assert "hunter2" not in str(refused.value)


@either
def test_a_missing_key_is_named_with_the_remedy(seal: Seal) -> None:
    with pytest.raises(KeyMissing, match=r"'new'.*ENCRYPTION_KEYS") as missing:
        Vault((old,)).open(seal("a", here), here)
    assert missing.value.key_id == "new"


def test_a_missing_vault_is_named_with_the_remedy() -> None:
    with pytest.raises(KeyMissing, match="VAULT_ADDR"):
        Vault((old,)).open(Sealed("v1.vault:breezesync:v3.AAAA.AAAA"), here)


@either
def test_another_key_of_the_same_id_does_not_open(seal: Seal) -> None:
    with pytest.raises(SealBroken):
        Vault((new_key("new"),)).open(seal("a", here), here)


@pytest.mark.parametrize("keys", [(), (old, old)], ids=["none", "twice the same id"])
def test_a_vault_refuses_an_unusable_ring(keys: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="vault"):
        Vault(keys)


def test_every_key_of_the_ring_opens_and_the_first_one_seals() -> None:
    ring = Vault((new, old))
    assert ring.open(Vault((old,)).seal(Secret("a"), here), here) == Secret("a")
    assert ring.open(Sealer(old.sealing_key).seal(Secret("b"), here), here) == Secret("b")
    assert ring.seal(Secret("a"), here).text.startswith(ring.current_prefixes[0])
    assert ring.sealer.seal(Secret("a"), here).text.startswith(ring.current_prefixes[1])


def test_a_rotation_wraps_the_data_key_again_and_leaves_its_text_as_it_is() -> None:
    before = Vault((old,)).seal(Secret("a"), here)
    [after] = reseal(Vault((new, old)), [(before, here)])
    assert isinstance(after, Sealed)
    assert after.text.split(".")[3] == before.text.split(".")[3]
    assert after.text.split(".")[2] != before.text.split(".")[2]
    assert Vault((new,)).open(after, here) == Secret("a")


def test_a_rotation_seals_to_the_new_public_key_what_the_web_process_sealed_to_the_old_one() -> None:
    before = Sealer(old.sealing_key).seal(Secret("a"), here)
    [after] = reseal(Vault((new, old)), [(before, here)])
    assert isinstance(after, Sealed)
    assert after.text.startswith("h1.new.")
    assert Vault((new,)).open(after, here) == Secret("a")


def test_a_rotation_reports_each_text_that_it_cannot_move_and_moves_the_others() -> None:
    sealed = Vault((old,)).seal(Secret("a"), here)
    texts = [Sealed("hunter2"), sealed, Sealed("v1.gone.AAAA.AAAA"), Sealed("v1.old.AAAA.AAAA"), Sealed("h1.old.AAAA")]
    results = reseal(Vault((new, old)), [(text, here) for text in texts])
    assert [type(each) for each in results] == [SealBroken, Sealed, KeyMissing, SealBroken, SealBroken]
