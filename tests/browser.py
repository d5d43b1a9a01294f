"""A real browser, for the tests of pages.

A failed test leaves a picture of its page in its `tmp_path`, `page.png`.
"""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dev.apt import NotInstalled
from dev.browser import chromium, running

PATIENCE = 10_000
"""Milliseconds that an expectation or an action on a page may take."""

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for a module, whose tests cannot be coroutines: see `dev.browser.running`."""
    log = tmp_path_factory.mktemp("chromium") / "apt-get.log"
    try:
        program = chromium(os.environ, log=log)
    except NotInstalled as error:
        pytest.fail(str(error), pytrace=False)
    expect.set_options(timeout=PATIENCE)
    with running(program) as started:
        yield started


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """An empty page of a visitor who has never been here. It reaches this machine alone."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, locale="en-US", timezone_id="UTC"
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    yield page
    if request.node.stash.get(_FAILED, False):
        page.screenshot(path=tmp_path / "page.png")
    context.close()
