"""`python -m dev.screenshots search`: the pictures in docs/images, of what `make demo` shows."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize
from playwright.sync_api import Error as BrowserError

from dev.browser import NoBrowser, chromium, running

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 150_000
"""Bytes of a picture: they are in the repository for ever."""

WIDE = ViewportSize(width=1280, height=800)
NARROW = ViewportSize(width=390, height=800)


def search(browser: Browser, url: str) -> Iterator[tuple[str, Page]]:
    """The page of the search service, by the names of the pictures."""
    late = "index=flights&is.origin=JFK&from.dep_delay=60&sort=-dep_delay&fields="
    late += "flight_id,dep_delay,carrier,origin,dest,tailnum,distance,time_hour"
    page = _open(browser, f"{url}/?{late}")
    page.locator(".bars span").first.wait_for()
    yield "search-page", page

    page = _open(browser, f"{url}/?index=airports&q=international", scheme="dark")
    page.locator("tbody .open").nth(2).click()
    page.locator("dl.document").wait_for()
    yield "search-document", page

    page = _open(browser, f"{url}/?index=airports&q=international", size=NARROW)
    yield "search-phone", page


GROUPS: dict[str, tuple[str, Callable[[Browser, str], Iterator[tuple[str, Page]]]]] = {
    "search": ("http://127.0.0.1:8000", search),
}
"""Of each group of pictures the address that `make demo` gives what they show, and its pages."""


def _open(browser: Browser, url: str, *, scheme: str = "light", size: ViewportSize = WIDE) -> Page:
    context = browser.new_context(
        viewport=size,
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        locale="en-US",
        timezone_id="UTC",
    )
    page = context.new_page()
    page.goto(url)
    page.locator("#list[aria-busy=false] table").wait_for()
    return page


def main() -> None:
    """Take the pictures of the groups that are named; exit status 1 when that fails."""
    parser = argparse.ArgumentParser(prog="python -m dev.screenshots", description=__doc__)
    parser.add_argument("group", choices=GROUPS, nargs="+")
    parser.add_argument("--url", help="where it is; the address of `make demo` if not given")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            running(chromium(os.environ, log=Path(folder) / "apt-get.log")) as browser,
        ):
            for group in arguments.group:
                url, pages = GROUPS[group]
                for name, page in pages(browser, (arguments.url or url).rstrip("/")):
                    _take(page, IMAGES / f"{name}.png")
    except (NoBrowser, BrowserError) as error:
        sys.exit(f"{error}\nIs `make demo` running, and has it loaded all rows?")


def _take(page: Page, file: Path) -> None:
    page.screenshot(path=file)
    page.context.close()
    size = file.stat().st_size
    print(f"{file} · {size:,} bytes")
    if size > LARGEST:
        sys.exit(f"{file} has more than {LARGEST:,} bytes: show less")


if __name__ == "__main__":
    main()
