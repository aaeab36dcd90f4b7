"""Which records of a page are new, changed or unchanged."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Literal, cast

from models.crypto.redact import clean_text
from models.exact_json import canonical_pieces
from models.paging.json_path import look_up
from models.provider import unsign

Json = dict[str, object]
longest_id = 255
Change = Literal["created", "updated"]


@dataclass(frozen=True, slots=True)
class Known:
    """A stored record; `source` is the list in which it was last seen."""

    content_hash: str
    data: Json
    deleted: bool
    source: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A record from the provider without its volatile fields, and the hash of the rest."""

    external_id: str
    data: Json
    content_hash: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A record to write: `fields` names the top-level fields that differ (all of them for a new record)."""

    item: Item
    kind: Change
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordChanges:
    """What one page writes: items of `resource` seen in the list `source`.

    new: items without a row.
    changed: items whose row changes; one that was deleted keeps the time when it was first seen.
    moved: ids whose row names another list.
    """

    resource: str
    source: str
    new: tuple[Item, ...] = ()
    changed: tuple[Item, ...] = ()
    moved: tuple[str, ...] = ()


def plan_writes(resource: str, source: str, known: Mapping[str, Known], changes: Sequence[Changed]) -> RecordChanges:
    """Return the rows that a page's changes write; an item that only moved is written as that and nothing more."""
    items = [changed.item for changed in changes]
    return RecordChanges(
        resource,
        source,
        tuple(item for item in items if item.external_id not in known),
        tuple(item for item in items if item.external_id in known),
        tuple(external_id for external_id, before in known.items() if before.source != source),
    )


def read_item(
    raw: object,
    id_path: str,
    volatile: tuple[str, ...],
    null_is_absent: bool = False,
    is_clean: bool = False,
    within: str | None = None,
) -> Item | None:
    """Return a list's element as an item; None if it is no object or has no id (a number or a text) at that path.

    With `null_is_absent` a null counts as a missing field, at any depth; it is stored anyway. `is_clean` if every text
    in it can be stored. `within` is what its id is unique below: both are its id then.
    """
    if not isinstance(raw, dict):
        return None
    identity = look_up(raw, id_path)
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        return None
    external_id = _keep_apart(str(identity))
    if not external_id:
        return None
    if within is not None:
        external_id = _keep_apart(f"{within}/{identity}")
    data = cast(Json, without(raw if is_clean else _clean(raw), volatile))
    return Item(external_id, data, hash_content(_present(data) if null_is_absent else data))


def hash_content(data: object) -> str:
    """Return the SHA-256 of the canonical form: keys sorted, 1.0 and 1 the same number."""
    digest = hashlib.sha256()
    for piece in canonical_pieces(data):
        digest.update(piece)
    return digest.hexdigest()


@dataclass(slots=True)
class _Volatile:
    """What of a value goes: all of it, the queries of its URLs, or something below its fields or its elements."""

    goes: bool = False
    loses_queries: bool = False
    fields: "dict[str, _Volatile]" = field(default_factory=dict)
    elements: "_Volatile | None" = None


@lru_cache(maxsize=256)
def _read_paths(paths: tuple[str, ...]) -> _Volatile:
    root = _Volatile()
    for path in paths:
        at = root
        for part in path.split("."):
            if part == "*?":
                at.loses_queries = True
                break
            at = at.fields.setdefault(part.removesuffix("[]"), _Volatile())
            if part.endswith("[]"):
                at.elements = at = at.elements or _Volatile()
        else:
            at.goes = True
    return root


def without(value: object, paths: tuple[str, ...]) -> object:
    """Return the value without the fields that the paths name; a part `name[]` goes into every element of a list.

    A path that ends in `*?` removes only the queries of the URLs below it (see `unsign`).
    """
    return _strip(value, _read_paths(paths))


def _strip(value: object, volatile: _Volatile) -> object:
    if volatile.loses_queries:
        value = unsign(value)
    if isinstance(value, dict) and volatile.fields:
        stripped = value.copy()
        for key, below in volatile.fields.items():
            if key not in stripped:
                continue
            if below.goes:
                del stripped[key]
            else:
                stripped[key] = _strip(stripped[key], below)
        return stripped
    if isinstance(value, list) and (each := volatile.elements) is not None:
        return [_strip(element, each) for element in value if not each.goes]
    return value


def compare(known: Mapping[str, Known], items: Iterable[Item], null_is_absent: bool = False) -> list[Changed]:
    """Return the items to write; if an id is on the page twice, the later one counts."""
    latest = {item.external_id: item for item in items}
    compared = (_compare_one(known.get(item.external_id), item, null_is_absent) for item in latest.values())
    return [changed for changed in compared if changed is not None]


def _compare_one(before: Known | None, item: Item, null_is_absent: bool) -> Changed | None:
    if before is None or before.deleted:
        return Changed(item, "created", tuple(sorted(item.data)))
    if before.content_hash == item.content_hash:
        return None
    absent = object()
    old, new = (_present(data) if null_is_absent else data for data in (before.data, item.data))
    differing = (
        n
        for n in old.keys() | new.keys()
        if hash_of_field(old.get(n, absent), absent) != hash_of_field(new.get(n, absent), absent)
    )
    return Changed(item, "updated", tuple(sorted(differing)))


def hash_of_field(value: object, absent: object) -> str | None:
    """Return the hash of a field; None if it is absent, so that it differs from a null."""
    return None if value is absent else hash_content(_clean(value))


def _keep_apart(identity: str) -> str:
    """Return the id as it came; if the database cannot hold it, as much as fits and the hash of the whole.

    Ids that differ only in what was cut off or removed stay different.
    """
    cleaned = clean_text(identity)
    if not cleaned or (cleaned == identity and len(identity) <= longest_id):
        return cleaned
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{cleaned[: longest_id - len(digest) - 1]}~{digest}"


def _present(data: Json) -> Json:
    """Return the data without the fields that are null."""

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if inner is not None}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return cast(Json, strip(data))


def _clean(value: object) -> object:
    """Return JSON that both databases can store: no NUL, no lone surrogates, no NaN; numbers as they came."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        if not isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {clean_text(str(key)): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value
