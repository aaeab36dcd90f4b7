"""How a process logs: one JSON object a line, or readable on a terminal, with every secret masked on its way out."""

import logging
import re
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from models.crypto.redact import show_controls
from models.crypto.secrets import Sealed, Secret

mask: Final = "***"
quiet_loggers: Final = (
    *("httpx", "httpcore", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg"),
    *("apscheduler", "uvicorn.access", "dramatiq.middleware.retries"),
)
"""Loggers that say too much below a warning: headers of requests, rows of results; whatever the root's level is."""

_word = r"(?:token|secret|password|passwd|passphrase|authorization|verifier|cookie|jwt|api_?key|encryption_keys)"
_brief = r"(?:code|state)"
_secret_key = re.compile(rf"(?i).*{_word}s?|confirmation|(?:auth(?:orization)?_?)?{_brief}|auth|.*private_?key")

# Each finds one kind of secret in running text. The wider patterns come last, when what they might tear is masked.
_patterns: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\beyJ[\w-]{6,}\.[\w-]*(?:\.[\w-]*){0,3}", mask),
        (r"def50200[0-9a-fA-F]*", mask),
        (r"\bv1\.[\w-]{1,32}\.[\w-]{38,}", mask),
        (r"(?i)\b(bearer\s+)[^\s\"',;]+", rf"\1{mask}"),
        (r"\b([Bb]asic\s+)[A-Za-z0-9+/=_-]{8,}", rf"\1{mask}"),
        (r"(?<![\w+.-])([a-zA-Z][\w+.-]*://[^\s/?#:@]*:)[^\s/?#@]+@", rf"\1{mask}@"),
        (rf"(?i)((?:[?&;]|%3F|%26)[\w.-]*(?:{_word}|{_brief})(?:=|%3D))(?:(?!%26)[^\s&;\"'<>#])+", rf"\1{mask}"),
        (rf"(?i)(?<![\w-])([\w-]*{_word}s?[\"']?\s*[=:]\s*(?:b(?=[\"']))?[\"']?)[^\s\"'&,;}})\]]+", rf"\1{mask}"),
        (rf"(?i)(\b(?:auth\w*_)?{_brief}[\"']?\s*[=:]\s*(?:b(?=[\"']))?[\"']?)[^\s\"'&,;}})\]]{{12,}}", rf"\1{mask}"),
        (r"(?i)(\bconfirmation[\"']?\s*(?:[=:]|%3D)\s*(?:b(?=[\"']))?[\"']?)[^\s\"'&,;})\]]{12,}", rf"\1{mask}"),
        (rf"(?i)([\"']{_brief}[\"']\s*:\s*(?:b(?=[\"']))?[\"'])[^\"']+", rf"\1{mask}"),
    )
)


def configure_logging(stream: TextIO | None = None, readable: bool | None = None) -> None:
    """Send everything, structlog's and the standard library's, through one handler to the stream (standard output).

    Readable by default if the stream is a terminal. Loggers that brought handlers of their own lose them.
    """
    stream = sys.stdout if stream is None else stream
    for_people = stream.isatty() if readable is None else readable
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)
        if for_people
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                mask_secrets,
                renderer,
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _take_over(handler)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor: masks values whose key names a secret, and what looks like one anywhere else."""
    return {key: _mask_value(key, value) for key, value in event.items()}


def mask_text(text: str) -> str:
    """The text without what looks like a secret in it: tokens, codes, states, passwords in URLs; and without what a
    terminal would obey: a provider's or a stranger's text may be part of it."""
    text = show_controls(text)
    for pattern, replacement in _patterns:
        text = pattern.sub(replacement, text)
    return text


def _mask_value(key: object, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(key, str) and _secret_key.fullmatch(key):
        return mask
    match value:
        case Secret() | Sealed():
            return mask
        case str():
            return mask_text(value)
        case Mapping():
            return {str(name): _mask_value(name, inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_mask_value(None, inner) for inner in value]
        case date() | timedelta() | UUID():
            return str(value)
        case _:
            return mask_text(repr(value))


def _take_over(handler: logging.Handler) -> None:
    """The root logger speaks through this handler alone, and every other logger through the root."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in list(root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in quiet_loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
