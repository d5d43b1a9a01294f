"""The page at `/`, in a real browser: what people see and do."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from elasticsearch import Elasticsearch
from playwright.sync_api import Locator, Page, Request, Route, expect

from search_service import indices
from search_service.access import keys
from tests.integration.search.conftest import TEXT, create_index
from tests.integration.search.live import serving

FIELDS: dict[str, Any] = {
    "id": {"type": "long"},
    "title": TEXT,
    "genre": {"type": "keyword"},
    "pages": {"type": "integer"},
    "price": {"type": "double"},
    "published": {"type": "date"},
    "lent": {"type": "boolean"},
    "place": {"type": "geo_point"},
    "tags": {"type": "keyword"},
    "author": {"properties": {"name": TEXT, "born": {"type": "integer"}}},
    "notes": {"type": "flattened"},
    "blurb": TEXT,
}
GENRES = ["novel", "poetry", "travel"]
BIG = 9007199254740993  # no double is this number
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=1</script>'


def books() -> Iterator[dict[str, Any]]:
    for number in range(1, 46):
        yield {
            "id": number,
            "title": f"The {'lighthouse' if number % 9 == 0 else 'garden'}, volume {number}",
            "genre": GENRES[number % 3],
            "pages": number * 10,
            "price": 1.0 * number,
            "published": f"20{number % 5 + 10}-0{number % 9 + 1}-15",
            "lent": number % 2 == 0,
            "tags": ["old", "rare"],
            "author": {"name": "Ada Vance", "born": 1900 + number},
        }
    yield {
        "id": BIG,
        "title": HOSTILE,
        "genre": HOSTILE,
        "pages": None,
        "place": {"lat": 52.5, "lon": 13.4},
        "tags": [HOSTILE, "a\u202eb"],
        "author": {"name": HOSTILE},
        "notes": {HOSTILE: {"deep": [HOSTILE, BIG]}, "__proto__": {"x": "y"}},
        "blurb": f"{'word ' * 400}lantern {'word ' * 50}{HOSTILE}",
    }


@dataclass(frozen=True)
class Site:
    """The service with an index of books, and a key for all of it and one that is slow."""

    url: str
    index: str
    key: str
    slow_key: str

    def address(self, **state: Any) -> str:
        return f"{self.url}/?{urlencode({'index': self.index, **state}, doseq=True)}"


@pytest.fixture(scope="module")
def site(es: Elasticsearch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    index = f"books-{secrets.token_hex(3)}"
    made = create_index(es, index, FIELDS, list(books()), key=["id"])
    checkpoints = f"checkpoints-{index}"
    in_step_at = datetime.now(UTC) - timedelta(minutes=2)
    record = {"kind": "freshness", "index": index, "in_step_at": in_step_at.isoformat()}
    kinds = {"kind": {"type": "keyword"}, "index": {"type": "keyword"}}
    es.indices.create(index=checkpoints, mappings={"properties": kinds})
    es.index(index=checkpoints, document=record, refresh=True)
    reader, slow = keys.make(), keys.make()
    rules = {
        "roles": {
            "reader": {"indices": {index: {}}},
            "slow": {"indices": {index: {}}, "rate": "2/hour"},
        },
        "keys": [
            {"name": name, "id": key.id, "sha256": key.sha256, "roles": [name]}
            for name, key in (("reader", reader), ("slow", slow))
        ],
    }
    file = tmp_path_factory.mktemp("access") / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)  # no .env
        patch.setattr(indices, "CHECKPOINTS", checkpoints)
        with serving(es, search_access=file) as url:
            yield Site(url, index, reader.text, slow.text)
    es.indices.delete(index=[made, checkpoints])


class Visit:
    """What a visitor does, and what is to be seen."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site

    def open(self, **state: Any) -> None:
        self.page.goto(self.site.address(**state))
        self.settled()

    def settled(self) -> None:
        """The answer that belongs to the address is shown."""
        expect(self.page.locator("#list[aria-busy=false]")).to_have_count(1)

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("searchbox", name="Words to find")

    @property
    def rows(self) -> Locator:
        return self.page.locator("tbody").get_by_role("row")

    @property
    def ids(self) -> list[str]:
        return self.page.locator("tbody tr td:first-child .open").all_inner_texts()

    @property
    def drawer(self) -> Locator:
        return self.page.locator("dialog#document")

    def facet(self, name: str) -> Locator:
        return self.page.locator("details.facet", has=self.page.locator(f".name:text-is('{name}')"))

    def counts(self, count: int) -> None:
        noun = "document" if count == 1 else "documents"
        expect(self.page.get_by_role("status")).to_have_text(re.compile(f"^{count} {noun} "))
        self.settled()

    @property
    def state(self) -> dict[str, list[str]]:
        return {k: v for k, v in parse_qs(urlsplit(self.page.url).query).items() if k != "index"}


@pytest.fixture
def visit(page: Page, site: Site) -> Iterator[Visit]:
    """A visitor with a key, to whom the page must not fail."""
    page.add_init_script(f"sessionStorage.setItem('pg-es-search key', {json.dumps(site.key)})")
    mistakes: list[str] = []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.on("dialog", lambda dialog: mistakes.append(f"a dialog: {dialog.message}"))
    yield Visit(page, site)
    assert mistakes == []


def accessible(page: Page) -> None:
    """axe-core finds nothing, the best practices included."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_words_are_found_and_marked_while_one_types(visit: Visit) -> None:
    visit.open()
    visit.counts(46)
    visit.box.press_sequentially("lighthouse")
    visit.counts(5)
    expect(visit.page.locator("mark").first).to_have_text("lighthouse")
    assert visit.state == {"q": ["lighthouse"]}
    visit.page.go_back()
    visit.counts(46)
    expect(visit.box).to_have_value("")


def test_an_address_says_all_that_is_shown(visit: Visit) -> None:
    visit.open(
        **{"q": "garden", "is.genre": ["novel", "poetry"], "from.pages": 100, "to.pages": 300},
        sort="-pages",
        fields="pages,genre",
        size=10,
        page=2,
    )
    expect(visit.box).to_have_value("garden")
    expect(visit.page.get_by_role("list", name="Active filters")).to_contain_text(
        "pages: 100 to 300"
    )
    heads = visit.page.get_by_role("columnheader")
    expect(heads).to_have_text(["pages", "genre"])
    expect(heads.first).to_have_attribute("aria-sort", "descending")
    visit.counts(12)
    assert visit.ids == ["120", "100"]


def test_values_are_ticked_counted_and_taken_back(visit: Visit) -> None:
    visit.open()
    genre = visit.facet("genre")
    expect(genre.get_by_role("listitem").first).to_contain_text("15")
    genre.get_by_label("novel").check()
    visit.counts(15)
    # The others keep their counts: they can be added.
    genre.get_by_label("poetry").check()
    visit.counts(30)
    assert visit.state == {"is.genre": ["novel", "poetry"]}
    visit.facet("lent").get_by_label("true").check()
    visit.counts(14)
    visit.page.get_by_role("button", name="Remove the filter genre: novel, poetry").click()
    visit.counts(22)
    expect(genre.get_by_label("novel")).not_to_be_checked()


def test_a_value_among_many_is_found_by_its_beginning(visit: Visit) -> None:
    visit.open()
    facet = visit.facet("title")
    facet.get_by_label("Find a value").fill("the lighth")
    expect(facet.get_by_role("listitem")).to_have_count(5)
    facet.get_by_label("The lighthouse, volume 18").check()
    visit.counts(1)


def test_numbers_and_dates_have_bounds(visit: Visit) -> None:
    visit.open()
    pages, published = visit.facet("pages"), visit.facet("published")
    pages.locator("summary").click()
    expect(pages.locator(".bars span").first).to_be_visible()
    pages.get_by_label("pages, from").fill("400")
    pages.get_by_label("pages, from").press("Enter")
    visit.counts(6)
    published.locator("summary").click()
    published.get_by_label("published, to").fill("2010-12-31")
    published.get_by_label("published, to").press("Tab")
    visit.counts(2)
    assert visit.state == {"from.pages": ["400"], "to.published": ["2010-12-31"]}


def test_a_bar_is_a_range(visit: Visit) -> None:
    visit.open(**{"from.pages": 1})
    bar = visit.facet("pages").locator(".bars span").first
    expect(bar).to_have_attribute("title", re.compile("^0 – 19: 1$"))
    bar.click()
    visit.counts(1)
    assert visit.state == {"from.pages": ["0"], "to.pages": ["19"]}


def test_a_head_sorts_by_its_field(visit: Visit) -> None:
    visit.open(**{"is.genre": "novel"})
    head = visit.page.get_by_role("columnheader", name="pages")
    for order, first in (("ascending", "3"), ("descending", "45")):
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", order)
        visit.settled()
        assert visit.ids[0] == first
    assert visit.state["sort"] == ["-pages"]


def test_pages_are_turned(visit: Visit) -> None:
    visit.open()
    expect(visit.page.get_by_text("Page 1 of 3")).to_be_visible()
    visit.page.get_by_role("button", name="Next →").click()
    expect(visit.page.get_by_text("Page 2 of 3")).to_be_visible()
    assert visit.ids[0] == "21"
    visit.page.get_by_label("Per page").select_option("50")
    expect(visit.rows).to_have_count(46)
    assert visit.state == {"size": ["50"]}


def test_fields_are_chosen(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_role("button", name=re.compile("^Fields")).click()
    menu = visit.page.get_by_role("dialog", name="Fields to show")
    menu.get_by_label("tags").uncheck()
    menu.get_by_label("blurb").check()
    visit.page.keyboard.press("Escape")
    heads = visit.page.get_by_role("columnheader")
    expect(heads.filter(has_text="blurb")).to_have_count(1)
    expect(heads.filter(has_text="tags")).to_have_count(0)


def test_a_document_has_an_address_of_its_own(visit: Visit) -> None:
    visit.open(q="lighthouse", sort="id")
    visit.rows.nth(1).click()
    expect(visit.drawer).to_contain_text("The lighthouse, volume 18")
    visit.page.wait_for_url(re.compile("[?&]document=18(&|$)"))
    visit.page.keyboard.press("ArrowRight")
    expect(visit.drawer.get_by_role("heading")).to_contain_text("27")
    visit.page.reload()
    expect(visit.drawer.locator("mark").first).to_have_text("lighthouse")
    visit.page.keyboard.press("Escape")
    expect(visit.drawer).to_be_hidden()
    visit.page.wait_for_url(re.compile("^((?!document=).)*$"))
    visit.open(document="4711")
    expect(visit.drawer).to_contain_text("has no document 4711")


def test_documents_are_shown_as_they_are_and_never_run(visit: Visit) -> None:
    visit.open(document=str(BIG), fields="id,title,genre,tags,author.name,notes,blurb", size=50)
    drawer = visit.drawer
    for text in (HOSTILE, str(BIG), "52.5, 13.4", "no value"):
        expect(drawer.locator("dd", has_text=text).first).to_be_visible()
    visit.page.get_by_role("button", name="JSON").click()
    shown = json.loads(drawer.locator("pre").inner_text())
    assert shown == list(books())[-1]
    visit.page.keyboard.press("Escape")
    expect(visit.rows.last).to_contain_text(HOSTILE)
    visit.facet("genre").get_by_label(HOSTILE).check()
    visit.counts(1)
    visit.box.fill("lantern")
    expect(visit.page.locator("mark")).to_have_text("lantern")
    assert visit.page.locator("main img, main script, dialog img, aside img").count() == 0
    assert visit.page.title() != "1"


def test_words_that_are_being_typed_survive_another_choice(visit: Visit) -> None:
    visit.open()
    expect(visit.facet("lent").get_by_label("true")).to_be_visible()
    # Both at once: whoever types does not stop for the pause after the last letter.
    visit.page.evaluate("""() => {
        const words = document.querySelector("#q");
        words.value = "lighthouse";
        words.dispatchEvent(new Event("input"));
        document.querySelector(".ticks input[value=true]").click();
    }""")
    visit.counts(2)
    expect(visit.box).to_have_value("lighthouse")
    assert visit.state == {"q": ["lighthouse"], "is.lent": ["true"]}


def test_an_answer_that_is_overtaken_is_dropped(visit: Visit) -> None:
    def hold(route: Route) -> None:
        if not late(route.request):
            route.continue_()

    def late(request: Request) -> bool:
        return (request.post_data_json or {}).get("q") == "garden"

    visit.open()
    visit.page.route("**/search", hold)
    with visit.page.expect_request(late):
        visit.box.fill("garden")
    with visit.page.expect_event("requestfailed", late):
        visit.box.fill("lighthouse")
    visit.counts(5)


def test_nothing_found_is_no_dead_end(visit: Visit) -> None:
    visit.open(q="nowhere")
    expect(visit.page.get_by_role("heading", name="Nothing found")).to_be_visible()
    visit.page.get_by_role("button", name="Clear all").click()
    visit.counts(46)


def test_a_mistake_is_told_in_words(visit: Visit) -> None:
    visit.open(**{"from.pages": "many", "sort": "colour"})
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("Invalid request")
    expect(alert).to_contain_text("query_fields.pages.gte expected integer")
    expect(alert).to_contain_text("unknown field")
    expect(alert).to_contain_text("Request ")
    visit.page.get_by_role("button", name="Remove the filter pages: from many").click()
    expect(alert).not_to_contain_text("expected integer")


def test_a_service_that_is_away_is_told_and_asked_again(visit: Visit) -> None:
    visit.open()
    visit.page.route("**/search", lambda route: route.abort())
    visit.box.fill("garden")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("The service cannot be reached")
    visit.page.unroute("**/search")
    alert.get_by_role("button", name="Try again").click()
    visit.counts(40)
    expect(alert).to_be_hidden()


def test_a_rate_limit_says_how_long_to_wait(page: Page, site: Site) -> None:
    page.add_init_script(f"sessionStorage.setItem('pg-es-search key', '{site.slow_key}')")
    page.goto(site.address())
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Too many requests")
    expect(
        alert.get_by_role("button", name=re.compile(r"Try again in \d+ (min|h)"))
    ).to_be_disabled()


def test_a_key_is_asked_for_and_stays_out_of_the_address(page: Page, site: Site) -> None:
    page.goto(site.address())
    ask = page.get_by_role("dialog", name="API key or token")
    expect(ask).to_contain_text("Send an API key")
    ask.get_by_label("Key").fill("wrong")
    ask.get_by_role("button", name="Use").click()
    expect(ask).not_to_contain_text("Send an API key")
    ask.get_by_label("Key").fill(site.key)
    ask.get_by_label("Key").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(20)
    assert site.key not in page.url
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(20)
    page.get_by_role("button", name="API key").click()
    page.get_by_role("button", name="Forget").click()
    expect(ask).to_contain_text("Send an API key")
    expect(page.locator("tbody tr")).to_have_count(0)


def test_a_search_is_a_command(visit: Visit) -> None:
    visit.open(**{"q": "garden", "is.genre": "novel", "sort": "-pages"})
    visit.page.get_by_role("button", name="Copy as curl").click()
    dialog = visit.page.get_by_role("dialog", name="This search as a command")
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    command = visit.page.evaluate("navigator.clipboard.readText()")
    assert visit.site.key not in command
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "API_KEY": visit.site.key, "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert [str(one["id"]) for one in json.loads(done.stdout)["data"]] == visit.ids


def test_how_fresh_the_index_is(visit: Visit) -> None:
    visit.open()
    expect(visit.page.locator("#freshness")).to_have_text(
        re.compile(r"In step with public.things as of \d+ (s|min) ago")
    )


def test_keys_are_enough(visit: Visit) -> None:
    visit.open()
    press = visit.page.keyboard.press
    press("/")
    expect(visit.box).to_be_focused()
    press("ArrowDown")
    press("ArrowDown")
    focused = visit.page.locator(":focus")
    expect(focused).to_have_text("2")
    press("Enter")
    expect(visit.drawer).to_be_visible()
    expect(visit.page.locator(".drawer :focus")).to_have_count(1)
    press("Escape")
    expect(focused).to_have_text("2")
    press("ArrowUp")
    press("ArrowUp")
    expect(visit.box).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(visit: Visit, scheme: Any) -> None:
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    visit.open(**{"q": "garden", "is.genre": "novel", "from.pages": 1})
    accessible(visit.page)
    visit.page.get_by_role("button", name=re.compile("^Fields")).click()
    accessible(visit.page)
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("button", name="Copy as curl").click()
    accessible(visit.page)
    visit.page.keyboard.press("Escape")
    visit.open(document=str(BIG))
    expect(visit.drawer.locator("dl.document")).to_be_visible()
    accessible(visit.page)
    visit.open(**{"from.pages": "many"})
    accessible(visit.page)


def test_a_small_screen_is_enough(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 360, "height": 740})
    visit.open(fields="id,title,genre,tags,author.name,notes,blurb", size=50)
    width = "document.scrollingElement.scrollWidth"
    assert visit.page.evaluate(width) == 360
    expect(visit.facet("genre")).to_be_hidden()
    visit.page.get_by_role("heading", name="Filters").click()
    visit.facet("genre").get_by_label("novel").check()
    visit.counts(15)
    assert visit.page.evaluate(width) == 360
    accessible(visit.page)
    visit.open(document=str(BIG))
    expect(visit.drawer.locator("dl.document")).to_be_visible()
    assert visit.page.evaluate(width) == 360


def test_nothing_comes_from_elsewhere(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    visit.open()
    assert asked
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(visit.site.url).netloc}


def test_the_page_works_under_a_path_of_a_proxy(visit: Visit) -> None:
    origin = visit.site.url

    def strip(route: Route) -> None:
        headers = route.request.headers
        answer = route.fetch(url=route.request.url.replace("/books", "", 1), headers=headers)
        route.fulfill(response=answer)

    visit.page.route(re.compile(f"^{re.escape(origin)}/(?!books/)"), lambda route: route.abort())
    visit.page.route(re.compile(f"^{re.escape(origin)}/books/"), strip)
    visit.page.goto(f"{origin}/books/?index={visit.site.index}")
    expect(visit.rows).to_have_count(20)
