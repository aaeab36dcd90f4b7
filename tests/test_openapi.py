"""docs/openapi.yaml says what the web process's routes are, and an example of each answer is as it says."""

from pathlib import Path
from typing import Any, cast

import yaml

from worker.web.app import Answers, routes_of

described: dict[str, Any] = yaml.safe_load(Path("docs/openapi.yaml").read_text("utf-8"))


def test_every_route_is_described_and_no_other() -> None:
    nothing = cast(Any, None)
    routes = {route.path: route.methods for route in routes_of(Answers(nothing, nothing, nothing, nothing))}
    known = {path: {method.upper() for method in operations} for path, operations in described["paths"].items()}
    assert known == {path: set(methods or ()) - {"HEAD"} for path, methods in routes.items()}


def test_every_path_parameter_is_described() -> None:
    for path, operations in described["paths"].items():
        for operation in operations.values():
            named = [
                each.get("$ref", each.get("name", "")).rsplit("/", 1)[-1] for each in operation.get("parameters", ())
            ]
            assert all(part[1:-1] in named for part in path.split("/") if part.startswith("{"))
