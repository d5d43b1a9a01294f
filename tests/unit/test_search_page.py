"""How the page's files are served. What they do in a browser: tests/integration/search."""

import gzip
import re
from collections.abc import AsyncIterator

import pytest
from httpx import ASGITransport, AsyncClient

from search_service import page
from search_service.app import create_app
from search_service.settings import Settings

pytestmark = pytest.mark.anyio

LARGEST = 40_000  # bytes of the whole page on the wire


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def service(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    """The service without Elasticsearch."""
    monkeypatch.chdir(str(tmp_path))  # no .env
    app = create_app(Settings(es_host="nowhere.invalid"))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_what_the_page_names_is_there_and_is_small(service: AsyncClient) -> None:
    html = (await service.get("/")).text
    names = {f"/{name}" for name in re.findall(r'(?:href|src)="(assets/[^"]+)"', html)}
    scripts = {name for name in names if name.endswith(".js")}
    while scripts:
        text = (await service.get(scripts.pop())).text
        found = {f"/assets/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
        scripts |= found - names
        names |= found
    assert names == {f"/assets/{name}" for name in page.FILES if name != page.INDEX}
    size = 0
    for name in ["/", *names]:
        answer = await service.get(name)
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        size += int(answer.headers["content-length"])
    assert size < LARGEST


@pytest.mark.parametrize("path", ["/", "/assets/page.js"])
async def test_nothing_from_elsewhere_and_nothing_inline_can_run(
    service: AsyncClient, path: str
) -> None:
    headers = (await service.get(path)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"


async def test_a_page_that_has_not_changed_is_not_sent_again(service: AsyncClient) -> None:
    first = await service.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = await service.get("/", headers={"If-None-Match": f'"old", {first.headers["etag"]}'})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]


async def test_who_cannot_unpack_gets_the_same_unpacked(service: AsyncClient) -> None:
    plain = await service.get("/assets/page.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == gzip.decompress(page.FILES["page.css"].compressed)
    head = await service.head("/")
    assert head.status_code == 200
    assert head.content == b""


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2fpage.py", "%2e%2e/page.py"])
async def test_only_the_pages_files_are_served(service: AsyncClient, name: str) -> None:
    answer = await service.get(f"/assets/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
