"""Columns that look like something secret, by their names and types."""

import re

from pg_es_pipeline.sync.catalog import Column

# Found anywhere in a name, whose words may be put together in any way: `passwordHash`.
_STEMS = re.compile(
    "passw(or)?d|passphrase|passcode|secret|token|credential"
    "|(api|private|secret|access|encryption|signing|ssh|license)key"
    "|(credit|debit|bank)card|cardn(o|um|umber)$|socialsecurity|securitycode|approvalcode"
    "|nationalid|passport|taxid|(bank)?accountn(o|um|umber)|routingnumber|recoverycode|backupcode"
)
# Too short for that: `spinner` has no PIN.
_WORDS = {
    *("pwd", "pw", "pin", "otp", "totp", "hotp", "mfa", "salt", "hash", "iban", "ssn", "cvv"),
    *("cvc", "pan"),
}
# What such a column is about is no secret: `token_type`.
_HARMLESS_ENDS = {
    *("algorithm", "at", "count", "expiry", "expires", "id", "kind", "name", "policy", "scope"),
    *("status", "type"),
}
_NUMBERS = ("int2", "int4", "int8", "numeric")
_SECRET_NUMBERS = re.compile("ssn|pin|otp|cvv|cvc|card|socialsecurity|account|taxid|nationalid")
_NO_SECRETS = {
    *("bool", "date", "timestamp", "timestamptz", "time", "timetz", "interval", "float4"),
    *("float8", "money", "point", "tsvector"),
}


def looks_secret(column: Column) -> bool:
    """Whether a column's name speaks of a password, a token, a key, a card, an identity number."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", column.name).lower())
    together = "".join(words)
    if not words or column.type in _NO_SECRETS or column.kind == "e":
        return False
    if words[-1] in _HARMLESS_ENDS and not together.endswith(("nationalid", "taxid")):
        return False
    if column.type in _NUMBERS and (
        not _SECRET_NUMBERS.search(together) or together.endswith("cardid")
    ):
        return False
    return bool(_STEMS.search(together) or _WORDS.intersection(words))
