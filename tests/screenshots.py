"""Pictures of the operator's page for the documents: `make screenshots` writes them to docs/images.

What they show is the scene of the tests: real flows against the sandbox, with rows for connections that are many.
"""

import struct
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import structlog
from playwright.sync_api import Browser

from models.store import Store
from tests.operator_scene import built_scene, freshen
from tests.operator_site import operator_token, running_operator
from tests.processes import CHECKOUT
from tests.servers import running_chromium, running_valkey

folder = CHECKOUT / "docs/images"
largest = 150_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's name, page, colours and size; `height` cuts off what is below, unless it is whole."""

    name: str
    path: str
    colours: Literal["light", "dark"] = "light"
    width: int = 1200
    height: int = 1000
    is_whole: bool = False


def pictures_of(story: str) -> tuple[Picture, ...]:
    return (
        Picture("operator-overview", "./", is_whole=True),
        Picture("operator-overview-dark", "./", "dark", is_whole=True),
        Picture("operator-story", f"connections/{story}", height=1060),
        Picture("operator-held", "providers", height=560),
        Picture("operator-phone", "./", width=390, height=1180),
    )


read_pixels = """async source => {
  const image = new Image();
  image.src = "data:image/png;base64," + source;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const {data} = context.getImageData(0, 0, image.width, image.height);
  const colours = new Map();
  for (let i = 0; i < data.length; i += 4) {
    const colour = data[i] << 16 | data[i + 1] << 8 | data[i + 2];
    colours.set(colour, (colours.get(colour) || 0) + 1);
  }
  const palette = [...colours].sort((a, b) => b[1] - a[1]).slice(0, 256).map(each => each[0]);
  const parts = colour => [colour >> 16, colour >> 8 & 255, colour & 255];
  const far = (a, b) => parts(a).reduce((sum, part, place) => sum + (part - parts(b)[place]) ** 2, 0);
  const places = new Map(palette.map((colour, place) => [colour, place]));
  const nearest = colour =>
    palette.reduce((best, each, place) => far(each, colour) < far(palette[best], colour) ? place : best, 0);
  for (const colour of colours.keys()) if (!places.has(colour)) places.set(colour, nearest(colour));
  const pixels = new Uint8Array(data.length / 4);
  for (let i = 0; i < pixels.length; i++)
    pixels[i] = places.get(data[4 * i] << 16 | data[4 * i + 1] << 8 | data[4 * i + 2]);
  let text = "";
  for (let i = 0; i < pixels.length; i += 8192) text += String.fromCharCode(...pixels.subarray(i, i + 8192));
  return {width: image.width, height: image.height, palette, pixels: btoa(text)};
}"""
"""Reads a picture in a browser: its 256 commonest colours, and which of them each pixel has or nearly has."""


def write_png(picture: Any) -> bytes:
    """Return a PNG of one byte a pixel, which is a third of what a browser makes."""
    width, pixels = picture["width"], b64decode(picture["pixels"])
    rows = b"".join(b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    palette = b"".join(colour.to_bytes(3, "big") for colour in picture["palette"])
    head = struct.pack(">IIBBBBB", width, picture["height"], 8, 3, 0, 0, 0)
    parts = ((b"IHDR", head), (b"PLTE", palette), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@contextmanager
def showing_scene() -> Iterator[tuple[str, str, Store]]:
    """Serve the operator's page of the scene: its URL, the id of a connection with a story, and its store."""
    with (
        TemporaryDirectory() as directory,
        running_valkey() as valkey,
        built_scene(Path(directory), valkey.url) as (store, story),
        running_operator(store, valkey.url, client_ids={"breezedoc": frozenset({"sandbox-client"})}) as operator,
    ):
        yield f"{operator.url}/operator/", story, store


def take(browser: Browser, url: str, picture: Picture) -> bytes:
    """Return the picture as a PNG."""
    size: Any = {"width": picture.width, "height": picture.height}
    with browser.new_context(color_scheme=picture.colours, viewport=size) as context:
        page = context.new_page()
        page.goto(url)
        page.fill("#token", operator_token.reveal())
        page.click("button.main")
        page.goto(url + picture.path)
        shot = page.screenshot(full_page=picture.is_whole)
    with browser.new_context() as context:
        return write_png(context.new_page().evaluate(read_pixels, b64encode(shot).decode()))


def main() -> None:
    """Write every picture; exit with an error if one is too large."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with showing_scene() as (url, story, store), running_chromium() as browser:
        for picture in pictures_of(story):
            freshen(store)
            content = take(browser, url, picture)
            (folder / f"{picture.name}.png").write_bytes(content)
            sys.stdout.write(f"docs/images/{picture.name}.png: {len(content):,} bytes\n")
            if len(content) > largest:
                sys.exit(f"{picture.name} has more than {largest:,} bytes")


if __name__ == "__main__":
    main()
