"""Half surrogate pairs in JSON: a json column may hold `"\\ud800"`, which has no form but this.

`msgspec` takes no such escape. So each becomes the three bytes that UTF-8 would have for it, which
are in no valid text, and is escaped again in the end.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

_ESCAPES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u([dD][89a-fA-F][0-9a-fA-F]{2})"
)
_BYTES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")

Decoded = TypeVar("Decoded")


def decoder(kind: type[Decoded]) -> Callable[[bytes | msgspec.Raw], Decoded]:
    """A function from JSON to this type, whose `msgspec.Raw` parts may have such bytes."""
    decode = msgspec.json.Decoder(kind).decode

    def decoded(raw: bytes | msgspec.Raw) -> Decoded:
        try:
            return decode(raw)
        except msgspec.DecodeError:
            return decode(_ESCAPES.sub(_bare, bytes(raw)))

    return decoded


def escaped(raw: bytes) -> bytes:
    """The JSON with escapes in place of such bytes."""
    return _BYTES.sub(_escape, raw) if b"\xed" in raw else raw


def replaced(raw: bytes) -> bytes:
    """The JSON with the sign for what is no character in their place."""
    return raw.decode(errors="replace").encode() if b"\xed" in raw else raw


def _bare(match: re.Match[bytes]) -> bytes:
    if match[1] is None:  # a backslash, or a whole pair
        return match[0]
    return chr(int(match[1], 16)).encode(errors="surrogatepass")


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode(errors="surrogatepass"))
