"""The body of a bulk request comes apart into what each row has in it."""

import pytest

from pg_es_pipeline.sync import ndjson

INDEX = b'{"index":{"_id":"1","version":1,"version_type":"external_gte"}}\n'
DELETE = b'{"delete":{"_id":"2","version":1,"version_type":"external_gte"}}\n'


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [DELETE],
        [INDEX + b"{}\n"],
        [DELETE, INDEX + b'{"a":1}\n', DELETE, DELETE, INDEX + b"{}\n"],
        [INDEX + INDEX, DELETE],
        [INDEX + DELETE, INDEX + b"{}\n"],
        [INDEX + b'{"a":"a raw\nnewline"}\n', INDEX + b'{"a":"\n\n\n"}\n', DELETE],
        [INDEX + b"{}\n", INDEX + b"no newline"],
    ],
    ids=[
        *("nothing", "delete", "document", "both", "document like an index action"),
        *("document like a delete", "raw newlines", "no end"),
    ],
)
def test_a_body_comes_apart_into_its_rows(rows: list[bytes]) -> None:
    assert list(ndjson.rows(b"".join(rows))) == rows
