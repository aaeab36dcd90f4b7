"""Bring sealed texts under the master key that seals now: the data key is wrapped again, its text stays as it is."""

from collections.abc import Sequence

from models.crypto.errors import KeyMissing, SealBroken, VaultError
from models.crypto.sealed_text import Envelope, NotSealed, Place, Wrapped, read_sealed, write_sealed
from models.crypto.secrets import Sealed
from models.crypto.vault import Vault

Result = Sealed | VaultError


def reseal(vault: Vault, found: Sequence[tuple[Sealed, Place]]) -> list[Result]:
    """Return each text under the key that seals now, or why that is impossible. Raises `KeyServiceUnavailable`.

    A text with a data key is neither opened nor checked; one that was sealed to a public key is opened first.
    """
    results = dict[int, Result]()
    envelopes = dict[int, Envelope]()
    for position, (sealed, place) in enumerate(found):
        try:
            parts = read_sealed(sealed)
            if isinstance(parts, Envelope):
                envelopes[position] = parts
            else:
                results[position] = vault.sealer.seal(vault.open(sealed, place), place)
        except NotSealed as error:
            results[position] = SealBroken(str(error))
        except VaultError as error:
            results[position] = error
    again = wrap_again(vault, [parts.wrapped for parts in envelopes.values()])
    for (position, parts), each in zip(envelopes.items(), again, strict=True):
        results[position] = each if isinstance(each, VaultError) else write_sealed(Envelope(each, parts.body))
    return [results[position] for position in range(len(found))]


def wrap_again(vault: Vault, wrapped: Sequence[Wrapped]) -> list[Wrapped | VaultError]:
    """Wrap data keys by the newest master key, whichever wrapped them so far. Raises `KeyServiceUnavailable`."""
    external = vault.external
    target = external if external is not None and external.wraps else vault.ring
    done = dict[Wrapped, Wrapped | None]()
    own = [each for each in wrapped if target.owns(each.key_id)]
    done.update(zip(own, target.rewrap(own), strict=True))
    others = [each for each in wrapped if not target.owns(each.key_id) and is_known(vault, each)]
    opened = dict(zip(others, unwrap(vault, others), strict=True))
    materials = {each: material for each, material in opened.items() if material is not None}
    done.update({each: None for each, material in opened.items() if material is None})
    done.update(zip(materials, target.wrap(list(materials.values())), strict=True))
    return [
        done[each] or SealBroken(f"its data key does not open with {each.key_id}")
        if each in done
        else KeyMissing(each.key_id)
        for each in wrapped
    ]


def is_known(vault: Vault, wrapped: Wrapped) -> bool:
    owners = (vault.ring, vault.external)
    return any(owner is not None and owner.owns(wrapped.key_id) for owner in owners)


def unwrap(vault: Vault, wrapped: Sequence[Wrapped]) -> list[bytes | None]:
    """Open data keys of the key that is not in use any more. Raises `KeyServiceUnavailable`."""
    external = vault.external
    if external is None or not any(external.owns(each.key_id) for each in wrapped):
        return vault.ring.unwrap(wrapped)
    external.fetch(wrapped)
    return [_find(vault, each) for each in wrapped]


def _find(vault: Vault, wrapped: Wrapped) -> bytes | None:
    try:
        return None if vault.external is None else vault.external.find(wrapped)
    except KeyMissing:
        return None
