"""Takes the body of a bulk request apart, where it has to be: into the lines of each row."""

from collections.abc import Iterator

_INDEX, _DELETE = b'{"index":{"_id":', b'{"delete":{"_id":'


def rows(body: bytes) -> Iterator[bytes]:
    """What each row has in a body: an action, and a document behind it unless it is a delete."""
    start = 0
    while start < len(body):
        end = _after_line(body, start)
        if body.startswith(_INDEX, start):
            end = _after_line(body, end)
        # A line end that is within a document belongs to its row: that alone is to be refused.
        while end < len(body) and not body.startswith((_INDEX, _DELETE), end):
            end = _after_line(body, end)
        yield body[start:end]
        start = end


def _after_line(body: bytes, start: int) -> int:
    return body.find(b"\n", start) + 1 or len(body)
