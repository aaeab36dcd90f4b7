"""Logs as a process writes them, at the level of debugging, to a text."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from config.logs import configure_logging


@contextmanager
def logging_everything() -> Iterator[io.StringIO]:
    """Log at the level of debugging, as a process does, to a text."""
    root = logging.getLogger()
    kept, stream = (root.handlers[:], root.level), io.StringIO()
    configure_logging(stream)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.handlers[:], root.level = kept
        structlog.reset_defaults()
