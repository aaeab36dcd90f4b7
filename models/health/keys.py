"""Judge whether what is sealed can be opened, and by which keys."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from models.health.finding import Finding

restore_keys = (
    "Restore ENCRYPTION_KEYS (in the fleet: secrets/encryption_keys) from your copy. If that key is lost for good, "
    "give the new one an id of its own (breezesync keys new), and set WITHOUT_KEYS to the old one's id."
)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What a key sealed: rows of the database, and pairs of tokens that are parked in the spool or in Redis."""

    rows: int = 0
    pairs: int = 0

    def __str__(self) -> str:
        counts = ((self.rows, "row"), (self.pairs, "parked pair"))
        parts = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts if count]
        return f"{' and '.join(parts)} {'needs' if self.rows + self.pairs == 1 else 'need'} it"


def judge_seals(sealing: str, opened: int, unopened: Mapping[str, str], *, is_sample: bool = False) -> Finding:
    """Judge whether every secret can be opened; `unopened` maps the place of each that cannot to the reason.

    `is_sample`: there are more, which were not tried.
    """
    if not unopened:
        which = "stored secrets that were tried" if is_sample else "stored secrets"
        return Finding("keys", "ok", f"{sealing} seals new secrets; all {opened} {which} can be opened")
    place, why = next(iter(unopened.items()))
    said = f"{len(unopened)} of {opened + len(unopened)} secrets cannot be opened, the first one in {place}: {why}"
    remedy = (
        "If a key is missing or wrong, restore ENCRYPTION_KEYS; if not, these are damaged, and their users have to "
        "authorize again."
    )
    return Finding("keys", "failed", said, remedy)


def judge_missing_keys(missing: Mapping[str, KeyUse], given_up: Collection[str]) -> Iterator[Finding]:
    """Report each key that stored secrets need and the settings lack."""
    for key, use in missing.items():
        said = f"key {key} is not configured, and {use}"
        if key in given_up:
            yield Finding("keys", "warn", f"{said}; WITHOUT_KEYS gives them up", "Their users have to authorize again.")
        else:
            where = "Set VAULT_ADDR and VAULT_TOKEN" if key.startswith("vault:") else "Add it to ENCRYPTION_KEYS"
            yield Finding("keys", "failed", said, f"{where}; without it no worker starts, unless WITHOUT_KEYS={key}.")


def describe_wrong_key(key: str) -> str:
    return f"key {key} is configured, but {key} is not the key that sealed what is stored"


def judge_wrong_keys(wrong: Mapping[str, KeyUse]) -> Iterator[Finding]:
    """Report each key that has the id of the one that stored secrets need, and opens none of them."""
    for key, use in wrong.items():
        yield Finding("keys", "failed", f"{describe_wrong_key(key)}, and {use}", restore_keys)


def judge_key_service(said: str, status: int | None) -> Finding:
    """Judge why the server of the master key gave no data key; nothing ends by that, all tokens wait."""
    remedies = {
        400: "Check that VAULT_TRANSIT_KEY exists: vault write -f transit/keys/NAME derived=true",
        403: "Check VAULT_TOKEN, and that its policy has update on encrypt, decrypt and rewrap of VAULT_TRANSIT_KEY.",
        404: "Check VAULT_TRANSIT_KEY, VAULT_TRANSIT_MOUNT and VAULT_NAMESPACE.",
        503: "Unseal it: vault operator unseal",
    }
    remedy = remedies.get(status or 0, "Start it, or check VAULT_ADDR, VAULT_CACERT and the network.")
    return Finding("vault", "failed", said, f"{remedy} No token is refreshed until then.")
