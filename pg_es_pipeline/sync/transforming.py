"""A table's transform over what is about to be sent, and over what is compared."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pg_es_pipeline.sync import ndjson
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.extract import Batch, Refusal
from pg_es_pipeline.sync.load import action

_INDEX, _DELETE = b'{"index"', b'{"delete"'
_BEFORE_ID, _BEHIND_ID = b'{"index":{"_id":', b',"version":'


def transformed(document: Document, batch: Batch) -> Batch:
    """A batch as the table's transform, if there is one, makes it.

    Of a row that the function leaves out the document is deleted: an earlier state of the row may
    have one. Deletes pass the function by.
    """
    transform = document.transform
    if transform is None or not batch.rows:
        return batch
    lines = list(ndjson.rows(batch.body))
    numbers = [number for number, line in enumerate(lines) if line.startswith(_INDEX)]
    parts = [lines[number].split(b"\n") for number in numbers]
    written_ids = b",".join(head[len(_BEFORE_ID) : head.rindex(_BEHIND_ID)] for head, *_ in parts)
    # A database in SQL_ASCII may hold what is no UTF-8.
    ids = json.loads(f"[{written_ids.decode(errors='replace')}]")
    made = transform.documents(ids, [content for _, content, _ in parts])
    refused, dropped = [], 0
    for number, (head, *_), id, written in zip(numbers, parts, ids, made, strict=True):
        if isinstance(written, bytes):
            lines[number] = b"%b\n%b\n" % (head, written)
        elif written is None:
            lines[number] = _DELETE + head.removeprefix(_INDEX) + b"\n"
            dropped += 1
        else:
            refused.append(Refusal(id, written.reason, action(lines[number])["version"]))
            lines[number] = b""
    return replace(
        batch,
        body=b"".join(lines),
        rows=batch.rows - len(refused),
        deletes=batch.deletes + dropped,
        unwritable=[*batch.unwritable, *refused],
        dropped=dropped,
    )


def contents(document: Document, texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What Elasticsearch ought to return of rows whose documents PostgreSQL writes as `texts`, by
    `_id`; without those that the table's transform leaves out.

    Of a row that the transform fails at an empty document, which equals none.
    """
    transform = document.transform
    if transform is None:
        return {id: json.loads(text) for id, text in texts.items()}
    written = transform.documents(list(texts), [text.encode() for text in texts.values()])
    return {
        id: json.loads(one) if isinstance(one, bytes) else {}
        for id, one in zip(texts, written, strict=True)
        if one is not None
    }
