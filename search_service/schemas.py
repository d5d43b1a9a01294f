"""The parts of a request that no model checks, as the OpenAPI document shows them.

What a condition may be depends on its field's type: conditions.py checks it.
"""

from typing import Any

from pydantic import WithJsonSchema

MAX_VALUES = 1024
_PLACE = "x-schema"


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else {**made, "minProperties": 1}


def named(name: str) -> WithJsonSchema:
    """For an annotation: the value is shown as the schema of this name."""
    return WithJsonSchema({_PLACE: name})


_SCALARS = [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]
_VALUES = {
    "type": "array",
    "items": {"anyOf": _SCALARS},
    "minItems": 1,
    "maxItems": MAX_VALUES,
}
_BOUND = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_TEXT = {"type": "string", "minLength": 1}
_LATITUDE = {"type": "number", "minimum": -90, "maximum": 90}
_LONGITUDE = {"type": "number", "minimum": -180, "maximum": 180}
_MEMBERS = {"type": "array", "items": {"type": "object"}, "minItems": 1}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Condition": {
        "description": "A value (exact), a list of values (any of them), or operators, all of "
        "which hold.",
        "anyOf": [*_SCALARS, _VALUES, _ref("Operators")],
    },
    "Operators": {
        "description": "What holds of a field, all of it; which operators there are depends on its "
        "type.",
        **_object(
            **dict.fromkeys(("gt", "gte", "lt", "lte"), _ref("Bound")),
            **{"not": {"description": "A condition that does not hold."}},
            exists={"type": "boolean"},
            null={"type": "boolean"},
            prefix=_TEXT,
            contains={"anyOf": [*_SCALARS, _VALUES, _ref("Contained")]},
            words={"anyOf": [{"type": "string"}, _ref("Words")]},
            near=_ref("Near"),
            box=_ref("Box"),
            element={
                "type": "object",
                "description": "Of nested documents: conditions that one of them meets all.",
            },
        ),
    },
    "Bound": {"description": "An end of a range.", **_BOUND},
    "Contained": {
        "description": "Values of a list: any of these, or all.",
        **_object(any=_VALUES, all=_VALUES),
        "maxProperties": 1,
    },
    "Words": {
        "description": "Words in one text field: all of them, any, or a phrase.",
        **_object(all=_TEXT, any=_TEXT, phrase=_TEXT),
        "maxProperties": 1,
    },
    "Point": {
        "description": "A place, in degrees.",
        **_object("lat", "lon", lat=_LATITUDE, lon=_LONGITUDE),
    },
    "Near": {
        "description": "The places within a distance of one, such as 5km.",
        **_object("lat", "lon", "within", lat=_LATITUDE, lon=_LONGITUDE, within={"type": "string"}),
    },
    "Box": {
        "description": "The places between two corners.",
        **_object("top_left", "bottom_right", top_left=_ref("Point"), bottom_right=_ref("Point")),
    },
    "Order": {
        "description": "The direction; of a field of places, the nearest to a place come first.",
        "anyOf": [{"type": "string", "enum": ["asc", "desc"]}, _ref("Nearest")],
    },
    "Nearest": _object("near", near=_ref("Point")),
    "Group": {
        "description": "`all`, `any` or `none` of its members hold, which are groups, or "
        "conditions by field as in query_fields.",
        "type": "object",
        "properties": {"all": _MEMBERS, "any": _MEMBERS, "none": _MEMBERS},
        "minProperties": 1,
    },
}


def place(document: dict[str, Any]) -> None:
    """Put the schemas in an OpenAPI document, and references where their names are."""
    document["components"]["schemas"] |= SCHEMAS
    _refer(document["paths"])
    _refer(document["components"])


def _refer(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(name := node.pop(_PLACE, None), str):
            node |= _ref(name)
        for inner in node.values():
            _refer(inner)
    elif isinstance(node, list):
        for inner in node:
            _refer(inner)
