"""The accounts that the bench works on: their numbers say how large they are, for the provider and for every side."""

from collections.abc import Mapping
from types import MappingProxyType

SMALL = range(1, 101)
"""5 documents: five requests read everything."""
LARGE = range(100_001, 100_005)
"""100 documents."""
NEW = range(200_001, 200_051)
"""300 documents, and no one has read them yet: each is read once."""
LEAVING = range(300_001, 300_021)
"""As small as the first, and about to revoke."""

FLEET = range(1_000_001, 100_000_001)
"""As small as the first: one for each connection of a fleet."""

FIRST_SYNC_DOCUMENTS = 300
SIZES: Mapping[range, int] = MappingProxyType({SMALL: 5, LARGE: 100, NEW: FIRST_SYNC_DOCUMENTS, LEAVING: 5})
EVERYBODY = tuple(account for accounts in SIZES for account in accounts)


def documents_of(account: int) -> int:
    """Return how many documents the account has."""
    if account in FLEET:
        return SIZES[SMALL]
    return next(size for accounts, size in SIZES.items() if account in accounts)


def connection_id(account: int) -> str:
    return f"{account:032x}"
