"""Answers as bytes, and what is done to them, without a server."""

import asyncio
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from search_service.context import unless_client_leaves
from search_service.errors import ServiceError
from search_service.export import _cell, _line
from search_service.pages import decode_answer, encoded, finite

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(documents)
def test_json_without_huge_numbers_stays_as_it_is(document: Any) -> None:
    raw = json.dumps(document).encode()
    if b"Infinity" not in raw:
        assert finite(raw) == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":1e999}', b'{"a":null}'),
        (b'{"a":[1.5E+400, -1e999]}', b'{"a":[null, null]}'),
        (b'{"a":1e308,"b":1e309}', b'{"a":1e308,"b":null}'),
        (b'{"a":"1e999","b": 1e999}', b'{"a":"1e999","b": null}'),
        (b'{"a":"x\\":1e999","b":1e99}', b'{"a":"x\\":1e999","b":1e99}'),
        (b'{"a":1e-999}', b'{"a":1e-999}'),
        (b'{"a":"\\ud800"}', b'{"a":"\\ud800"}'),
    ],
)
def test_numbers_that_no_double_holds_are_null(raw: bytes, expected: bytes) -> None:
    assert finite(raw) == expected
    assert all(map(math.isfinite, numbers(json.loads(finite(raw)))))


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize(
    ("source", "path", "cell"),
    [
        ('{"a": 1.50}', "a", "1.50"),
        ('{"a": 12345678901234567890123}', "a", "12345678901234567890123"),
        ('{"a": "x\\ny"}', "a", "x\ny"),
        ('{"a": null}', "a", ""),
        ('{"a": true}', "a", "true"),
        ('{"a": {"b": [1, "x"]}}', "a.b", '[1, "x"]'),
        ('{"a.b": 1}', "a.b", "1"),
        ('{"a": {"b.c": 1}}', "a.b.c", "1"),
        ('{"a": null}', "a.b", ""),
        ('{"a": [{"b": 1}]}', "a.b", ""),
        ("{}", "a", ""),
    ],
)
def test_a_cell_has_the_value_at_its_path(source: str, path: str, cell: str) -> None:
    assert _cell(msgspec.Raw(source.encode()), path.split(".")) == cell


def test_a_line_has_no_line_breaks_between_its_values() -> None:
    assert _line(b'{\n "a": "x\\n" }') == b'{"a":"x\\n"}'


async def _left() -> dict[str, str]:
    return {"type": "http.disconnect"}


def test_work_ends_when_its_client_has_left() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 30)
            except asyncio.CancelledError:
                ended.set()
                raise

        with pytest.raises(ServiceError) as refused:
            await unless_client_leaves(Request({"type": "http"}, _left), work())
        assert refused.value.status == 499
        assert ended.is_set()
        # The task goes on with what it has to do afterwards.
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_work_that_is_done_is_not_disturbed_by_a_client_that_leaves() -> None:
    async def work() -> int:
        return 7

    async def scenario() -> int:
        return await unless_client_leaves(Request({"type": "http"}, _left), work())

    assert asyncio.run(scenario()) == 7


@pytest.mark.parametrize(
    "text",
    [r"\ud800", r"\uDFFF\uD800", r"\ud83d\ude00", r"\\ud800", r"\\\ud800", "한", r"a\ud800b"],
)
def test_half_surrogate_pairs_come_back_as_they_were(text: str) -> None:
    raw = b'{"hits":{"hits":[{"_source":{"a":"%b"}}]}}' % text.encode()
    (hit,) = decode_answer(raw).hits.hits
    answer = encoded({"data": [hit.source]})
    assert json.loads(answer) == {"data": [{"a": json.loads(f'"{text}"')}]}
    answer.decode()  # valid UTF-8
