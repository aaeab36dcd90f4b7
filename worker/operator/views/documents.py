"""A view as JSON: names as the dataclass has them, times in ISO 8601, enums as their values."""

import json

from worker.operations.texts import to_json


def as_json(view: object) -> str:
    """Return the view as one JSON document."""
    return json.dumps(view, default=to_json, ensure_ascii=False, allow_nan=False)
