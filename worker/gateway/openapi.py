"""The OpenAPI document of the gateway, made from the table of its operations."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from models.gateway.problems import ProblemType
from worker.gateway.operations import Operation, operations, schemas


def describe(version: str) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for method in operation.methods:
            paths.setdefault(operation.path, {})[method.lower()] = _describe(operation, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "breezesync gateway",
            "version": version,
            "description": "Access tokens, and calls to the provider's API, for the application's servers.",
        },
        "servers": [{"url": "http://127.0.0.1:8702"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of GATEWAY_KEYS."}},
        },
    }


def _describe(operation: Operation, method: str) -> dict[str, Any]:
    name = operation.kind if len(operation.methods) == 1 else f"{operation.kind}_{method.lower()}"
    described: dict[str, Any] = {
        "operationId": name,
        "summary": operation.summary,
        "description": operation.text,
        "parameters": [
            {
                "name": each.name,
                "in": each.place,
                "required": each.place == "path",
                "description": each.text,
                "schema": each.schema,
            }
            for each in operation.parameters
        ],
        "responses": _describe_answers(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.kind == "make_call",
            "content": _content("application/json", operation.body),
        }
    return described


def _describe_answers(operation: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    if operation.answer is not None:
        said = HTTPStatus(operation.status).phrase
        answers[str(operation.status)] = {
            "description": said,
            "content": _content("application/json", operation.answer),
        }
    else:
        answers["default"] = {"description": "The provider's answer, with `Breezesync-Source: provider`."}
    by_status: dict[int, list[ProblemType]] = {}
    for problem in operation.problems:
        by_status.setdefault(problem.status, []).append(problem)
    for status, problems in sorted(by_status.items()):
        known = "; ".join(f"`{each.value}`: {each.heading}" for each in problems)
        answers[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}. {known}.",
            "content": _content("application/problem+json", "Problem"),
        }
        if status in (429, 503):
            answers[str(status)]["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
            }
    return answers


def _content(media_type: str, schema: str) -> Mapping[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
