"""The keys of a table that say how it shows in Dagster; they change nothing of what is loaded."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, field_validator

_TAG_KEY = r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}"
_TAG_VALUE = r"[A-Za-z0-9_.-]{0,63}"
_GROUP = r"\w+(/\w+)*"
_OWNER = r"team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+"


def _key(value: Any) -> Any:
    parts = value.split("/") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and not all(isinstance(one, str) and one for one in parts):
        raise ValueError("an asset key is names with a slash between them: shop/orders")
    return tuple(parts) if isinstance(parts, list) else parts


AssetKey = Annotated[tuple[str, ...], BeforeValidator(_key, json_schema_input_type=str | list[str])]


class AssetOptions(BaseModel):
    """Where the lineage, the groups and the owners of a table are said."""

    asset_key: AssetKey = ()
    """The index's asset; the index's name if it is not given."""
    upstream: AssetKey = ()
    """The asset that stands for the table. Given in the file: one that another part of the Dagster
    project, or another code location, defines; without it the table gets an asset of its own."""
    group: str | None = None
    """The group of the index's asset."""
    owners: tuple[str, ...] = ()
    """E-mail addresses, or `team:name`."""
    tags: dict[str, str] = Field(default={})
    description: str | None = None
    """What the table is about; the comment on the table in PostgreSQL if it is not given."""

    @field_validator("group")
    @classmethod
    def _group_is_allowed(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_GROUP, value, re.ASCII):
            raise ValueError(f"a group is made of letters, digits and underscores, not {value!r}")
        return value

    @field_validator("owners")
    @classmethod
    def _owners_are_people_or_teams(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not re.fullmatch(_OWNER, owner):
                raise ValueError(f"an owner is an e-mail address or team:name, not {owner!r}")
        return value

    @field_validator("tags")
    @classmethod
    def _tags_are_allowed(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not re.fullmatch(_TAG_KEY, name) or not re.fullmatch(_TAG_VALUE, text):
                raise ValueError(
                    f"{name}: {text!r} is no tag: letters, digits, '_', '-' and '.' are allowed, "
                    "63 of them at most"
                )
        return value
