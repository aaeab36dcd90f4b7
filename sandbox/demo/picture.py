"""Pictures of the demo: the terminal as SVG, and the result page on a phone as PNG."""

import io
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console, RenderableType

COLUMNS = 132
A_PHONE = "390,620"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KINDS = (".svg", ".png")


class NoPictureError(Exception):
    """A picture that cannot be made here; the message says why."""


def check_picture(file: Path) -> None:
    """Raise `NoPictureError` if such a picture cannot be made."""
    if file.suffix not in KINDS:
        raise NoPictureError(f"{file}: a picture ends in .svg (the terminal) or .png (the page)")
    if not file.parent.is_dir():
        raise NoPictureError(f"{file}: there is no directory {file.parent}")
    if file.suffix == ".png" and not find_browser():
        raise NoPictureError(f"{file}: needs Chromium, and there is none on PATH")


def draw_terminal(file: Path, *parts: RenderableType) -> None:
    """Draw the terminal in the viewer's own monospace font, so that the picture loads nothing."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(*parts, sep="\n")
    drawn = console.export_svg(title="make demo")
    file.write_text(re.sub(r"@font-face \{.*?\n    \}\n", "", drawn, flags=re.DOTALL))


def photograph(file: Path, url: str) -> None:
    """Take a picture of the page at `url` in a headless Chromium. Raises `NoPictureError` if that fails."""
    browser = find_browser()
    if browser is None:
        raise NoPictureError("there is no Chromium on PATH")
    with tempfile.TemporaryDirectory(prefix="breezesync-picture-") as profile:
        subprocess.run(  # noqa: S603 - a browser found on PATH
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *(f"--user-data-dir={profile}", f"--window-size={A_PHONE}", f"--screenshot={file.resolve()}", url),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    if not file.exists():
        raise NoPictureError(f"{file}: Chromium took no picture of {url}")


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)
