"""Generate the documentation of events, commands and jobs from the code: `python docs/generate.py`.

Writes `asyncapi.yaml`, `metrics.md`, `profile.schema.json`, and the sections of `events.md`, `doctor.md`, `commands.md`
and `providers.md` between two marks.
With `--check` it writes nothing, and exits 1 if a file is out of date.
"""

import dataclasses
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import typer
import yaml
from dramatiq.brokers.stub import StubBroker

from config.profiles.fields import Rule, column_rules, hook_rules, provider_rules, resource_rules, view_rules
from config.profiles.schema import make_schema
from config.settings import Settings
from models.hook import Hook
from models.messaging.commands import longest_id, types, verbs
from models.messaging.events import (
    About,
    AccessLimited,
    AccessRestored,
    AuthorizationFailed,
    CallCompleted,
    CallFailed,
    CallUnknown,
    ClientRecovered,
    ClientRejected,
    ConnectionAuthorized,
    ConnectionDisconnected,
    ConnectionRefreshed,
    Fact,
    MassRefusal,
    MassRefusalEnded,
    ProviderAvailable,
    ProviderUnavailable,
    ReauthorizationRequired,
    RecordChanged,
    StoredEvent,
    SyncCompleted,
    SyncFailed,
    describe,
    stream_of,
)
from models.messaging.messages import QUEUES
from models.messaging.schemas import schema_of, summaries
from models.provider import Column, Provider, Resource, View
from tests.cli.misconfigurations import MISCONFIGURATIONS
from worker.__main__ import build_app
from worker.actors import Flows, declare_actors
from worker.cli.examples import EXAMPLES
from worker.metrics.catalog import Family, in_gateway, in_worker, of_fleet

here = Path(__file__).parent
at = datetime(2026, 11, 24, 12, 30, 15, 250_000, tzinfo=UTC)
expires_at = datetime(2027, 11, 24, 12, 30, 15, tzinfo=UTC)
connection_id = "5f2b0c9f8a2e4f0e9a4b8f3d2c1e7a60"
call_id = "7b1e5f3a9c2d4e6f8a0b1c2d3e4f5a6b"
run_id = "0d9c3b5a7e6f4c1d8b2a9f7e5d4c3b2a"
counts = {"created": 2, "updated": 1, "deleted": 0, "unchanged": 40}

examples: Mapping[str, Fact] = {
    "connection.authorized": ConnectionAuthorized(
        "4711", "ada@example.com", "*", expires_at, reauthorized=False, also_connected_by=()
    ),
    "connection.authorization_failed": AuthorizationFailed(
        "9a1d4e2f6b8c4d0ea3f5b7c9d1e2f304", "denied", "The user denied the request"
    ),
    "connection.refreshed": ConnectionRefreshed(2, expires_at),
    "connection.reauthorization_required": ReauthorizationRequired("access_revoked", "api", "/auth/breezedoc"),
    "connection.disconnected": ConnectionDisconnected(revoked_upstream=True),
    "connection.access_limited": AccessLimited(),
    "connection.access_restored": AccessRestored(),
    "sync.completed": SyncCompleted(
        run_id, {"account": {**dict.fromkeys(counts, 0), "unchanged": 1}, "document": counts}, 1840
    ),
    "sync.failed": SyncFailed(run_id, "provider_unavailable", "HTTP 500"),
    "record.created": RecordChanged("created", "document", "31337", ("id", "title", "recipients"), initial=True),
    "record.updated": RecordChanged("updated", "document", "31337", ("completed_at", "recipients"), initial=False),
    "record.deleted": RecordChanged("deleted", "document", "31337", (), initial=False),
    "call.completed": CallCompleted(call_id, 201),
    "call.failed": CallFailed(call_id, None, "provider_unavailable"),
    "call.unknown": CallUnknown(call_id, None, "answer_lost"),
    "provider.client_rejected": ClientRejected("client-1", "invalid_client", "Client authentication failed"),
    "provider.client_recovered": ClientRecovered(
        "client-1", "invalid_client", "the token endpoint accepts the client again"
    ),
    "provider.unavailable": ProviderUnavailable("client-1", "https://breezedoc.com/oauth/token", 502, at),
    "provider.available": ProviderAvailable("client-1", "https://breezedoc.com/oauth/token", 502, at),
    "provider.mass_refusal": MassRefusal("client-1", 260, 270, "held"),
    "provider.mass_refusal_ended": MassRefusalEnded("client-1", 4980, 12, "recovered"),
}

jobs = {
    "confirm": "Confirms that the browser which brought a code is the user's: only then is the code exchanged.",
    "exchange_code": "Continues an authorization: exchanges its code, then asks which account it belongs to.",
    "refresh_token": "Refreshes a connection's tokens, due or not; at most once a minute for each connection.",
    "carry_out_refresh": "Carries out a refresh that is due. Sent by breezesync itself.",
    "sync_connection": "Syncs a connection now; if a sync is running, another one follows it.",
    "read_connection": "Continues a sync, or starts one that is due. Sent by breezesync itself.",
    "carry_out_sync": "Carries out a sync that someone asked for. Sent by breezesync itself.",
    "sync_user": "Syncs all active connections of a user now.",
    "disconnect": "Disconnects an account: erases its tokens at once, and revokes them at the provider.",
    "carry_out_disconnect": "Carries out a disconnect that is due, once. Sent by breezesync itself.",
    "revoke_grant": "Revokes a grant at the provider. Sent by breezesync itself.",
    "probe_client": "Probes a token endpoint behind an open breaker. Sent by breezesync itself.",
    "call": "Carries out a call that the gateway has accepted, at most once unless its method is safe.",
    "publish_events": "Publishes the events in the outbox. Sent by breezesync itself.",
    "deliver_webhooks": "Sends the events that wait for a webhook's endpoint. Sent by breezesync itself.",
}


def example_of(type_: str) -> StoredEvent:
    """Return an example event of the type; events about an OAuth client belong to no user."""
    operator = type_.startswith("provider.")
    about = (
        About("breezedoc", other_subject="client/client-1") if operator else About("breezedoc", "ada", connection_id)
    )
    return describe(examples[type_], about, "c0ffee5e2b9d4a6f8e7d6c5b4a392817", 3, at)


def make_asyncapi() -> str:
    """Return the AsyncAPI 3 document: event streams, the command stream, and the queues."""
    settings = Settings()
    keys = {"events": settings.events_stream, "records": settings.records_stream}
    types_of = {stream: [t for t in examples if stream_of(examples[t]) == stream] for stream in keys}
    commands, rejected = settings.commands_stream, f"{settings.commands_stream}:rejected"
    queues = {
        queue: [key_of_job(a) for a, on in QUEUES.items() if on == queue] for queue in dict.fromkeys(QUEUES.values())
    }
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "breezesync",
            "version": "1.0.0",
            "description": "The events that breezesync publishes on Redis streams, and the commands and jobs that it "
            "accepts. events.md explains them. Generated from the code by docs/generate.py.",
        },
        "defaultContentType": "application/json",
        "servers": {"redis": {"host": "127.0.0.1:6379", "protocol": "redis", "description": "REDIS_URL."}},
        "channels": {
            "events": channel(
                keys["events"], "EVENTS_STREAM: connections, syncs, and the OAuth client.", types_of["events"]
            ),
            "records": channel(keys["records"], "RECORDS_STREAM: every change of a record.", types_of["records"]),
            "commands": channel(commands, "COMMANDS_STREAM: commands from any language.", list(types)),
            "commandsRejected": channel(
                rejected, "Commands that could not be carried out, with the reason.", ["rejected"]
            ),
            **{
                f"queue.{queue}": channel(f"dramatiq:{queue}", f"Dramatiq's queue {queue}.", actors)
                for queue, actors in queues.items()
            },
        },
        "operations": {
            "publishEvents": operation("send", "events", "Publishes events, in order for each connection."),
            "publishRecords": operation(
                "send", "records", "Publishes changes of records, in order for each connection."
            ),
            "readCommands": operation("receive", "commands", "Reads commands through one consumer group."),
            "rejectCommands": operation("send", "commandsRejected", "Moves commands here that it cannot carry out."),
            **{
                f"work.{queue}": operation(
                    "receive", f"queue.{queue}", "Processes Dramatiq messages; their arguments are ids only."
                )
                for queue in queues
            },
        },
        "components": {
            "messages": {
                **{type_: event_message(type_) for type_ in examples},
                **{each: command_message(each) for each in verbs},
                "confirm": confirm_message(),
                "call": call_message(),
                "rejected": rejected_message(),
                **{key_of_job(actor): job_message(actor, fn) for actor, fn in actor_functions().items()},
            }
        },
    }
    return "# Generated by docs/generate.py: change the code, then run make docs.\n" + yaml.dump(
        json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=118
    )


def key_of_job(actor: str) -> str:
    """Return the key of a job's message; a command may have the same name."""
    return f"job.{actor}" if actor in types else actor


def channel(address: str, description: str, messages: list[str]) -> dict[str, Any]:
    refs = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    return {"address": address, "description": description, "messages": refs}


def operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def event_message(type_: str) -> dict[str, Any]:
    event = example_of(type_)
    names = ("id", "type", "provider", "user_id", "connection_id", "sequence")
    fields = {name: {"type": "string"} for name in names} | {"type": {"const": type_}}
    return {
        "name": type_,
        "title": type_,
        "summary": summaries[type_],
        "description": "The payload is the entry's field `event`; the headers are its other fields.",
        "headers": {"type": "object", "required": list(names), "properties": fields},
        "payload": schema_of(type_),
        "examples": [
            {
                "headers": {name: str(getattr(event, name)) for name in names},
                "payload": json.loads(event.document),
            }
        ],
    }


def command_message(verb: str) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": longest_id}
    fields: dict[str, Any] = {
        "type": {"const": verb},
        "connection_id": text,
        "user_id": text | {"description": "All connections of this user."},
        "provider": text | {"description": "With user_id: only those at this provider."},
    }
    if verb == "disconnect":
        fields["erase"] = {"enum": ["true", "false"], "description": "Whether the records are deleted as well."}
    return {
        "name": verb,
        "title": f"Command: {verb}",
        "summary": f"XADD … type {verb} and either connection_id or user_id.",
        "payload": {
            "type": "object",
            "required": ["type"],
            "properties": fields,
            "oneOf": [{"required": ["connection_id"]}, {"required": ["user_id"]}],
        },
        "examples": [{"payload": {"type": verb, "connection_id": connection_id}}],
    }


def confirm_message() -> dict[str, Any]:
    ids = {"authorization_id": "What the browser brought to return_to.", "user_id": "The user of your own session."}
    fields = ids | {"confirmation": "What the browser brought to return_to; it works once."}
    text = {"type": "string", "minLength": 1, "maxLength": longest_id}
    return {
        "name": "confirm",
        "title": "Command: confirm",
        "summary": "XADD … type confirm authorization_id … user_id … confirmation …",
        "payload": {
            "type": "object",
            "required": ["type", *fields],
            "properties": {"type": {"const": "confirm"}, **{n: text | {"description": d} for n, d in fields.items()}},
        },
        "examples": [
            {"payload": {"type": "confirm", "authorization_id": run_id, "user_id": "ada", "confirmation": "Zk1q…"}}
        ],
    }


def call_message() -> dict[str, Any]:
    known = {"type": "string", "minLength": 1, "maxLength": longest_id, "description": "What the gateway answered."}
    return {
        "name": "call",
        "title": "Command: call",
        "summary": "XADD … type call call_id …, of a call that the gateway has accepted; it is due by itself, too.",
        "payload": {
            "type": "object",
            "required": ["type", "call_id"],
            "properties": {"type": {"const": "call"}, "call_id": known},
        },
        "examples": [{"payload": {"type": "call", "call_id": call_id}}],
    }


def rejected_message() -> dict[str, Any]:
    fields = {"reason": "Why it was rejected.", "entry_id": "The id of the original entry."}
    return {
        "name": "rejected",
        "title": "A command that could not be carried out",
        "summary": "The command's own fields, with values cut at 1,000 bytes, and the reason.",
        "payload": {
            "type": "object",
            "required": list(fields),
            "properties": {name: {"type": "string", "description": text} for name, text in fields.items()},
        },
    }


def actor_functions() -> dict[str, Any]:
    broker = StubBroker()
    declare_actors(broker, Flows(**dict.fromkeys(Flows.__slots__)))  # type: ignore[arg-type]
    return {name: broker.actors[name].fn for name in QUEUES}


def job_message(actor: str, fn: Any) -> dict[str, Any]:
    parameters = inspect.signature(fn).parameters.values()
    kwargs = {each.name: {"type": "boolean" if each.annotation is bool else "string"} for each in parameters}
    needed = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    return {
        "name": actor,
        "title": f"Job: {actor}",
        "summary": jobs[actor],
        "payload": {
            "type": "object",
            "description": "A Dramatiq message.",
            "required": ["queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"],
            "properties": {
                "queue_name": {"const": QUEUES[actor]},
                "actor_name": {"const": actor},
                "args": {"type": "array", "maxItems": 0},
                "kwargs": {"type": "object", "required": needed, "properties": kwargs, "additionalProperties": False},
                "options": {"type": "object"},
                "message_id": {"type": "string"},
                "message_timestamp": {"type": "integer"},
            },
        },
    }


def make_events_section() -> str:
    """Return a section for each event with its fields and an example."""
    parts: list[str] = []
    for type_ in examples:
        data = schema_of(type_)["properties"]["data"]
        rows = [
            f"| `{name}` | {format_type(field)} | {field['description']} |"
            for name, field in data["properties"].items()
            if name not in ("provider", "user_id", "connection_id")
        ]
        shown = json.dumps(json.loads(example_of(type_).document)["data"], indent=2, ensure_ascii=False)
        stream = f"`{stream_of(examples[type_])}` stream"
        parts += [f"### {type_}", "", f"{summaries[type_]} On the {stream}.", ""]
        parts += ["| field | | |", "| --- | --- | --- |", *rows, "", "```json", shown, "```", ""]
    return "\n".join(parts)


def format_type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    names: list[str] = field["type"] if isinstance(field["type"], list) else [field["type"]]
    words = {"string": "text", "integer": "number", "boolean": "true or false", "array": "list", "object": "object"}
    return " or ".join("time" if field.get("format") and name == "string" else words.get(name, name) for name in names)


def make_doctor_section() -> str:
    """Return a table for each subject: the mistake, what `doctor` says, and its remedy."""
    parts: list[str] = []
    for subject in dict.fromkeys(made.subject for made in MISCONFIGURATIONS):
        parts += [
            f"## {subject}",
            "",
            "| misconfiguration | check | doctor says | remedy |",
            "| --- | --- | --- | --- |",
        ]
        for made in MISCONFIGURATIONS:
            if made.subject == subject:
                parts.append(f"| {made.mistake} | {made.check} | {_as_cell(made.said)} | {_as_cell(made.remedy)} |")
        parts.append("")
    return "\n".join(parts)


def _as_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def make_commands_section() -> str:
    """Return a section for each command, with its options and examples."""
    parts: list[str] = []
    for path, command in sorted(_walk(typer.main.get_command(build_app()))):
        if path and not (hasattr(command, "commands") and not command.invoke_without_command):
            parts += [f"## {path}", "", str(command.help or "").strip(), "", "```sh", *EXAMPLES[path], "```", ""]
            options = [each for each in command.params if getattr(each, "help", None) and not each.hidden]
            rows = [f"| `{_name(each)}` | {_as_cell(each.help)} |" for each in options if each.name != "as_json"]
            parts += [*(["| | |", "| --- | --- |", *rows, ""] if rows else [])]
    return "\n".join(parts)


def _name(parameter: Any) -> str:
    return str(
        parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name.upper()
    )


def _walk(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from _walk(command, f"{path} {name}".strip())


def make_fields_section() -> str:
    """Return a table of every field that a profile may have, for each kind of table."""
    kinds: Mapping[str, tuple[type[Any], Mapping[str, Rule]]] = {
        "Above the tables": (Provider, provider_rules),
        "`[[resources]]`": (Resource, resource_rules),
        "`[[views]]`": (View, view_rules),
        "`columns` of a view": (Column, column_rules),
        "`[webhook]`": (Hook, hook_rules),
    }
    parts: list[str] = []
    for title, (kind, rules) in kinds.items():
        usual = {field.name: _describe_default(field) for field in dataclasses.fields(kind)}
        rows = [f"| `{name}` | {usual[name]} | {_as_cell(rule.text)} |" for name, rule in rules.items()]
        parts += [f"### {title}", "", "| field | default | means |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(parts)


def _describe_default(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "needed"
    if field.default in ("", (), None, dataclasses.MISSING):
        return ""
    if isinstance(field.default, timedelta):
        return f"`{field.default.total_seconds() / 3600:g}h`"
    return f"`{json.dumps(field.default)}`"


def fill_page(name: str, mark: str, section: str) -> str:
    """Return the page with the section between its two marks."""
    page = (here / name).read_text(encoding="utf-8")
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    before, rest = page.split(begin)
    return before + begin + "\n" + section + end + rest.split(end)[1]


metrics_page = """\
<!-- Generated by docs/generate.py from worker/metrics/catalog.py: change the code, then run make docs. -->

# Metrics

Prometheus text, over HTTP and without a password: keep both listeners off the Internet. No metric has a user, a
token or a record in it. [The runbook](runbook.md) has the alerts; `deploy/observability/` has their rules, a
Prometheus configuration and a Grafana board, and `make up PROFILES=observability` runs all three.

## Of a worker

Every `dramatiq worker.main:boot` shows what its processes did together, at `METRICS_ADDRESS`: one of them listens,
and if it ends another does. A start of the whole begins at zero, which `rate()` and `increase()` cope with; sum
over the workers for the fleet. Workers on one machine need an address each. If nothing can listen there, the worker
works on and tries again every five seconds: `metrics.unavailable` in its log says what is in the way. Port 0 takes
a free one, and `metrics.listening` says which. A scheduler shows its process's memory, CPU and garbage collection
there, and nothing else yet.

{worker}

## Of a gateway

Each [gateway](gateway.md) shows what it did at its own `METRICS_ADDRESS`.

{gateway}

## Of the fleet

At `/metrics` of the operator's listener of any `web` process (`OPERATOR_ADDRESS`). The figures come from the
database and Redis, are the same at every `web`, and are kept for five seconds, or for twenty times as long as it
took to read them. If the database or Redis does not answer, the metrics that come from it are missing: `absent()`
finds that.

{fleet}
"""


def make_metrics_page() -> str:
    """Return the page that lists every metric."""
    return metrics_page.format(
        worker=make_metrics_table(in_worker), gateway=make_metrics_table(in_gateway), fleet=make_metrics_table(of_fleet)
    )


def make_metrics_table(families: Sequence[Family]) -> str:
    rows = [
        f"| `{each.full_name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.text} |"
        for each in families
    ]
    return "\n".join(["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def main(arguments: list[str]) -> int:
    made = {
        here / "asyncapi.yaml": make_asyncapi(),
        here / "events.md": fill_page("events.md", "events", make_events_section()),
        here / "doctor.md": fill_page("doctor.md", "misconfigurations", make_doctor_section()),
        here / "commands.md": fill_page("commands.md", "commands", make_commands_section()),
        here / "metrics.md": make_metrics_page(),
        here / "providers.md": fill_page("providers.md", "fields", make_fields_section()),
        here / "profile.schema.json": json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n",
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"docs/{path.name} is out of date. Run python docs/generate.py", file=sys.stderr)  # noqa: T201
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
