"""What a key may hold: one object for checking it, describing it and showing it.

Rules:

* A `Kind` annotates a model's field: it checks the value, is its JSON Schema, its
  name and unit in the reference, and its canonical spelling.
* A string in the schema may also be a ``${…}`` reference, as editors see the file
  before references are replaced.
* `reserved` wraps a kind whose key is spoken for but does not work yet: its default
  is accepted, anything else is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from txlb.config import addresses, values
from txlb.config.values import shown

REFERENCE = r"\$\{"
RESERVED = "x-reserved"  # in a schema: this key does not work yet
A_REFERENCE = {"type": "string", "pattern": REFERENCE}
COOKIE_PATTERN = "[A-Za-z0-9._-]{1,64}"
Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """See the module. ``show`` turns a checked value into what a file would say."""

    name: str
    parse: Callable[[Any], Any]
    schema: Json
    show: Callable[[Any], Any] = lambda value: value
    unit: str = ""
    works: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return dict(self.schema)


@dataclass(frozen=True)
class Or:
    """Another shape that a validator in front turns into the annotated one."""

    schema: Json

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {"anyOf": [self.schema, handler(schema)]}


def text_schema(pattern: str) -> Json:
    return {"type": "string", "pattern": rf"^({pattern})$|{REFERENCE}"}


def whole(low: int, high: int, unit: str = "") -> Kind:
    """A whole number; text of digits too, so that JSON can hold ``"${PORT}"``."""

    def parse(value: object) -> int:
        if type(value) is str and value.isascii() and value.isdecimal() and len(value) < 19:
            value = int(value)
        if type(value) is not int:
            raise ValueError(f"must be a whole number from {low} to {high}, not {shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"{value} is out of range: from {low} to {high}")
        return value

    schema: Json = {"type": ["integer", "string"], "minimum": low, "maximum": high}
    schema["pattern"] = rf"^[0-9]+$|{REFERENCE}"
    return Kind(f"{low} to {high}", parse, schema, unit=unit)


def choice(*names: str, later: tuple[str, ...] = ()) -> Kind:
    """One of ``names``; those ``later`` are known and refused."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        if isinstance(value, str) and value in later:
            raise ValueError(f"{value} is not supported yet")
        if isinstance(value, float) and str(value) in names:
            raise ValueError(f'must be text, in quotes: "{value}"')
        near: list[str] = []
        if isinstance(value, str) and len(value) < 40:
            near = difflib.get_close_matches(value.lower(), [*names, *later], n=1, cutoff=0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        expected = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
        raise ValueError(f"must be {expected}, not {shown(value)}{hint}")

    return Kind(
        " or ".join(f"`{name}`" for name in names), parse, {"anyOf": [{"enum": list(names)}, A_REFERENCE]}
    )


def nullable(kind: Kind, spelled: str = "null") -> Kind:
    """``kind``, or ``spelled`` for None."""
    word = None if spelled == "null" else spelled

    def parse(value: object) -> Any:
        return None if value is None or value == word else kind.parse(value)

    def show(value: Any) -> Any:
        return word if value is None else kind.show(value)

    alone: Json = {"type": "null"} if word is None else {"const": word}
    return replace(
        kind,
        name=f"{kind.name} or `{spelled}`",
        parse=parse,
        show=show,
        schema={"anyOf": [alone, kind.schema]},
    )


def _spelled(default: object) -> str:
    return default if isinstance(default, str) else shown(default) if default != [] else "[]"


def reserved(kind: Kind, default: Any) -> Kind:
    """``kind``, of which only ``default`` (as a file spells it) is accepted for now."""
    accepted = kind.parse(default)

    def parse(value: object) -> Any:
        result = kind.parse(value)
        if type(result) is not type(accepted) or result != accepted:
            raise ValueError(f"is not supported yet (only {_spelled(default)} is)")
        return result

    return replace(kind, parse=parse, works=False, schema={"const": default, RESERVED: True})


def _anything(value: object) -> object:
    if isinstance(value, bool) or not value:
        return value
    raise ValueError("is not supported yet")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, not {shown(value)}")


def _path(value: object) -> str:
    text = values.as_text(value, "a path")
    if not text or "\0" in text or len(text) > 4096:
        raise ValueError(f"{shown(text)} is not a path")
    return text


def _cookie(value: object) -> str:
    text = values.as_text(value, "the name of a cookie")
    if not re.fullmatch(COOKIE_PATTERN, text):
        raise ValueError(f"{shown(text)} is not the name of a cookie: letters, digits, . _ and - only")
    return text


def _body(value: object) -> str:
    text = values.as_text(value, "text")
    if len(text.encode()) > 65536:
        raise ValueError("is longer than 64KiB")
    return text


def _content_type(value: object) -> str:
    text = values.as_text(value, "a content type such as text/html")
    if not (
        text.isascii() and text.isprintable() and "/" in text and len(text) <= 200 and text == text.strip()
    ):
        raise ValueError(f"{shown(text)} is not a content type such as text/html; charset=utf-8")
    return text


def _statuses(value: object) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for part in value if isinstance(value, (list, tuple)) and value else [value]:
        low, dash, high = str(part).partition("-")
        if not (_is_status(low) and (not dash or (_is_status(high) and low <= high))):
            raise ValueError(
                f"must be statuses such as 200 or 200-399, or a list of them, not {shown(value)}"
            )
        ranges.append((int(low), int(high or low)))
    return tuple(ranges)


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdecimal() and "200" <= text <= "599"


def _show_statuses(value: tuple[tuple[int, int], ...]) -> list[str]:
    return [f"{low}-{high}" if low != high else str(low) for low, high in value]


def _target(value: object) -> str:
    text = values.as_text(value, "a path")
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or {" ", "#"} & set(text):
        raise ValueError(f"{shown(text)} is not a path: write /health, other characters as %20")
    if len(text) > 4096:
        raise ValueError("is longer than 4096 characters")
    return text


def _host_field(value: object) -> str:
    text = values.as_text(value, "a host")
    name = text.rpartition(":")[0] if re.fullmatch(r".*:[0-9]{1,5}", text) and "::" not in text else text
    addresses.parse_host(name)
    return text


def _options(value: object) -> tuple[tuple[str, Any], ...]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping (name: value), not {shown(value)}")
    for name, one in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{shown(name)} is not the name of an argument")
        if one is not None and not isinstance(one, (str, int, float, bool)):
            raise ValueError(f"{name} must be text, a number, true, false or null")
    return tuple(value.items())


def size(low: int, high: int) -> Kind:
    def parse(value: object) -> int:
        result = values.parse_size(value)
        if not low <= result <= high:
            raise ValueError(
                f"{value} is out of range: from {values.show_size(low)} to {values.show_size(high)}"
            )
        return result

    schema: Json = {"type": ["string", "integer"], "minimum": low, "maximum": high}
    schema["pattern"] = text_schema(values.SIZE_PATTERN)["pattern"]
    return Kind(f"size, {values.show_size(low)} to {values.show_size(high)}", parse, schema, values.show_size)


DURATION = Kind("duration", values.parse_duration, text_schema(values.DURATION_PATTERN), values.show_duration)
PERCENT = Kind("share", values.parse_percent, text_schema(values.PERCENT_PATTERN), values.show_percent)
ID = Kind("id", values.parse_id, text_schema(values.ID_PATTERN))
BIND = Kind("address", addresses.parse_bind, {"type": "string"})
LISTENER_BIND = Kind("address", addresses.parse_listener_bind, {"type": "string"})
ADMIN_BIND = Kind("address", addresses.parse_admin_bind, {"type": "string"})
HOST = Kind("host", addresses.parse_host, {"type": "string"})
RULE_HOST = Kind("host", addresses.parse_rule_host, {"type": "string"})
COOKIE = Kind("name", _cookie, text_schema(COOKIE_PATTERN))
NETWORK = Kind("network", addresses.parse_network, {"type": "string"})
PATH_PREFIX = Kind("path", addresses.parse_path_prefix, text_schema(r"/[^?#*\s]*"))
BOOLEAN = Kind("`true` or `false`", _boolean, {"type": ["boolean", "string"], "pattern": REFERENCE})
FILE = Kind("path", _path, {"type": "string", "minLength": 1})
BODY = Kind("text", _body, {"type": "string"})
CONTENT_TYPE = Kind("text", _content_type, {"type": "string"})
STATUSES = Kind(
    "status or range, or a list of them",
    _statuses,
    {"type": ["string", "integer", "array"], "items": {"type": ["string", "integer"]}},
    _show_statuses,
)
TARGET = Kind("path", _target, text_schema(r"/[^#\s]*"))
HOST_FIELD = Kind("host", _host_field, {"type": "string"})
OPTIONS = Kind("mapping", _options, {"type": "object"}, dict)
ANYTHING = Kind("not yet", _anything, {})
NOTHING = reserved(Kind("`null`", _anything, {}), None)

Duration = Annotated[float, DURATION]
Id = Annotated[str, ID]
Bind = Annotated[str, LISTENER_BIND]
Network = Annotated[str, NETWORK]
