"""`python -m dev.screenshots GROUP …`: the pictures in docs/images, of what `make demo` shows."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, ViewportSize
from playwright.sync_api import Error as BrowserError

from dev.apt import NotInstalled
from dev.browser import chromium, running

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 150_000
"""Bytes of a picture: they are in the repository for ever."""

WIDE = ViewportSize(width=1280, height=800)
NARROW = ViewportSize(width=390, height=800)
TALL = ViewportSize(width=1160, height=1000)

_PATIENCE = 120_000  # ms, of a run as well
_LISTED = "#list[aria-busy=false] table"


def search(browser: Browser, url: str) -> Iterator[tuple[str, Page]]:
    """The page of the search service, by the names of the pictures."""
    late = "index=flights&is.origin=JFK&from.dep_delay=60&sort=-dep_delay&fields="
    late += "flight_id,dep_delay,carrier,origin,dest,tailnum,distance,time_hour"
    page = _open(browser, f"{url}/?{late}")
    page.locator(_LISTED).wait_for()
    page.locator(".bars span").first.wait_for()
    yield "search-page", page

    page = _open(browser, f"{url}/?index=airports&q=international", scheme="dark")
    page.locator(_LISTED).wait_for()
    page.locator("tbody .open").nth(2).click()
    page.locator("dl.document").wait_for()
    yield "search-document", page

    page = _open(browser, f"{url}/?index=airports&q=international", size=NARROW)
    page.locator(_LISTED).wait_for()
    yield "search-phone", page


def dagster(browser: Browser, url: str) -> Iterator[tuple[str, Page]]:
    """Dagster's pages, once everything is loaded. The checks are executed for their picture."""
    groups = quote("global@global:pges_tables,global@global:pges_indices")
    page = _open(browser, f"{url}/asset-groups/?expanded={groups}", size=TALL)
    page.get_by_text("13 partitions").wait_for()
    yield "dagster-graph", page

    page = _open(browser, f"{url}/assets/flights?view=partitions&partition=2013-07")
    page.get_by_text("docs_per_second").wait_for()
    yield "dagster-partitions", page

    page = _open(browser, f"{url}/assets/flights?view=overview", size=TALL)
    page.get_by_text("Plots", exact=True).click()
    page.get_by_text("Events", exact=True).last.click()
    page.get_by_text("docs_per_second").scroll_into_view_if_needed()
    yield "dagster-plots", page

    page = _open(browser, f"{url}/assets/airports?view=checks")
    page.get_by_role("button", name="Execute all").click()
    page.get_by_text("In Progress").first.wait_for()
    page.get_by_text("Passed", exact=True).wait_for()
    page.reload()
    page.get_by_text("Succeeded").nth(5).wait_for()
    yield "dagster-checks", page

    page = _open(browser, f"{url}/assets/flights?view=partitions&partition=2013-07")
    page.locator("a[href*='/runs/']").first.click()
    page.get_by_placeholder("Filter…").fill("docs/s")
    page.get_by_text("rows in").nth(2).wait_for()
    yield "dagster-run", page


GROUPS: dict[str, tuple[str, Callable[[Browser, str], Iterator[tuple[str, Page]]]]] = {
    "search": ("http://127.0.0.1:8000", search),
    "dagster": ("http://127.0.0.1:3000", dagster),
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
    context.set_default_timeout(_PATIENCE)
    page = context.new_page()
    page.goto(url)
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
    except (NotInstalled, BrowserError) as error:
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
