"""API keys: `pges_<id>_<secret>`, of which the rules hold the id and a hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

PREFIX = "pges_"
_ID_BYTES = 6
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: its text, which nothing stores, and what the rules need of it."""

    text: str
    id: str
    sha256: str


def make() -> NewKey:
    """A key that nobody else has."""
    name = secrets.token_hex(_ID_BYTES)
    text = f"{PREFIX}{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewKey(text, name, digest(text))


def digest(text: str) -> str:
    """The hash by which a key is known.

    A slow hash, as for passwords, would protect nothing: a key has 256 random bits, which nobody
    finds by trying, and every request would pay for it.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def id_of(text: str) -> str:
    """The id in a key's text, or whatever is in its place."""
    return text.removeprefix(PREFIX).partition("_")[0]


def matches(text: str, sha256: str) -> bool:
    """Whether this is the key with that hash, in a time that does not depend on the answer."""
    return hmac.compare_digest(digest(text), sha256)
