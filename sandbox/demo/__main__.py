"""`python -m sandbox.demo`: read the options, run the demo, set the exit code."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from sandbox.client import ControlError
from sandbox.demo.application import Application, NotSeenError
from sandbox.demo.life import Life
from sandbox.demo.picture import NoPictureError, check_picture, draw_terminal, photograph
from sandbox.demo.show import Figures, Show, draw_figures
from sandbox.demo.stack import OwnStack, Stack, StackError, own_stack, read_variable, still_alive

TROUBLE = (NotSeenError, StackError, NoPictureError, ControlError, httpx.HTTPError, redis.RedisError, SQLAlchemyError)


class StepFailedError(Exception):
    """A step did not happen; the output says which."""


@dataclass
class Play:
    """One run of the demo: it shows each step, and ends at the first that fails."""

    show: Show
    patience: float

    def on_own_stack(self, pictures: Sequence[Path]) -> Figures:
        """Start a breezesync, run the demo, stop it. Raises `StepFailedError` with the logs in its notes."""
        with own_stack() as own:
            try:
                self.show.expect("breezesync starts")
                stack = self._step(own.start, lambda s: f"{len(s.children)} processes, ready on {s.web_url}")
                figures = self.on_stack(stack, pictures, "breezesync stops")
                self._step(lambda: stop(own, stack), lambda count: f"{count} processes ended, nothing left behind")
                return figures
            except StepFailedError as failed:
                for name, tail in own.tails().items():
                    failed.add_note(f"--- {name}\n{tail}")
                raise

    def on_stack(self, stack: Stack, pictures: Sequence[Path], *after: str) -> Figures:
        """Run the demo against a running breezesync; `after` names the steps that follow it."""
        began_at = time.monotonic()
        with Application(stack, self.patience) as application:
            life = Life(application)
            self.show.expect(*(step.title for step in life.steps()), *after)
            for step in life.steps():
                self._step(step.play, str)
            for picture in pictures:
                if picture.suffix == ".png":
                    photograph(picture, life.result_page)
            allowed = application.control.state()["settings"]["rate_limit"]
            return Figures(
                dict(application.count_by_type(life.connection_id)),
                life.most_presentations(),
                life.most_requests(),
                allowed,
                time.monotonic() - began_at,
            )

    def _step(self, play: Callable[[], Any], describe: Callable[[Any], str]) -> Any:
        self.show.begin()
        try:
            done = play()
        except TROUBLE as trouble:
            self.show.miss(str(trouble) or type(trouble).__name__)
            raise StepFailedError from trouble
        self.show.see(describe(done))
        return done


def stop(own: OwnStack, stack: Stack) -> int:
    """Stop it and check that no process is left; return how many there were."""
    own.stop()
    if left := still_alive(stack.children):
        raise StackError(f"processes left behind: {', '.join(map(str, left))}")
    return len(stack.children)


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options. Exits with 2 and a message if one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.demo",
        description="Demonstrate the life of one user's connection. @FILE stands for the lines of FILE.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--attach", action="store_true", help="use a running breezesync with the sandbox")
    parser.add_argument("--web", default="http://127.0.0.1:8700", metavar="URL", help="with --attach: its web process")
    parser.add_argument("--sandbox", default="http://127.0.0.1:8799", metavar="URL", help="with --attach: the sandbox")
    parser.add_argument("--redis", metavar="URL", help="with --attach: Redis, else REDIS_URL or REDIS_URL_FILE")
    parser.add_argument("--database", metavar="URL", help="with --attach: else DATABASE_URL or DATABASE_URL_FILE")
    parser.add_argument(
        "--command", default="breezesync", help="with --attach: the command that starts its command line"
    )
    parser.add_argument(
        "--patience", type=float, default=30, metavar="SECONDS", help="how long to wait for each result"
    )
    parser.add_argument(
        "--save-picture",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="FILE.svg: the terminal; FILE.png: the result page; repeatable",
    )
    options = parser.parse_args(arguments)
    if options.attach:
        options.redis = options.redis or read_variable("REDIS_URL")
        options.database = options.database or read_variable("DATABASE_URL")
        if not options.redis or not options.database:
            parser.error("--attach needs --redis and --database, or REDIS_URL and DATABASE_URL")
    for picture in options.save_picture:
        try:
            check_picture(picture)
        except NoPictureError as trouble:
            parser.error(str(trouble))
    return options


def main() -> int:
    options = read_options(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    show = Show(console)
    play = Play(show, options.patience)
    try:
        with show.live():
            if options.attach:
                command = shlex.split(options.command)
                stack = Stack(options.web, options.sandbox, options.redis, options.database, command)
                figures = play.on_stack(stack, options.save_picture)
            else:
                figures = play.on_own_stack(options.save_picture)
    except StepFailedError as failed:
        for note in getattr(failed, "__notes__", []):
            console.print(Text(note), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    closing = draw_figures(figures)
    console.print(closing)
    for picture in options.save_picture:
        if picture.suffix == ".svg":
            draw_terminal(picture, show.draw(), closing)
    return 0 if figures.are_within_limits() else 1


if __name__ == "__main__":
    sys.exit(main())
