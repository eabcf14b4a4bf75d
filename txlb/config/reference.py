"""docs/configuration.md, made from the models: ``python -m txlb.config.reference``."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from txlb.config.algorithms import Algorithm
from txlb.config.health import BackendHealthCheck
from txlb.config.kinds import Kind
from txlb.config.models import Configuration
from txlb.config.scalars import resolve_plain
from txlb.config.validation import model_in

MINIMAL = """\
listeners:
  - {id: web, bind: "127.0.0.1:8080"}
backends:
  - {id: web-1, host: 127.0.0.1, port: 8001}
  - {id: web-2, host: 127.0.0.1, port: 8002}
routing_rules:
  - backends: [web-1, web-2]
"""

INTRODUCTION = f"""\
# Configuration

One YAML file says everything. The shortest useful one:

```yaml
{MINIMAL}```

`twistd txlb --config=FILE --check` reads a file and starts nothing: it ends with 0, or with 1 after
printing everything that is wrong, one line each:

```
lb.yaml:7:5: backends[1].wieght: unknown key (did you mean weight?)
lb.yaml:9:23: routing_rules[0].backends[1]: unknown backend wbe-2 (did you mean web-2?)
```

It looks at every file that is named: certificates and keys, tokens, the secret, bodies of answers, code
of your own, the store (in a copy) and whether it and the access log could be written, all as the user
that runs it. It makes and changes nothing, and may run beside a txlb with the same store, which is then
not read. It does not bind, look names up or connect to backends.

`twistd txlb --print-schema` prints a JSON Schema. With it, editors complete keys and show their meaning;
name it on the first line of the file:

```yaml
# yaml-language-server: $schema=txlb.schema.json
```

`examples/http.yaml` has the keys that most files need, each with a comment.

## How values are written

The file is UTF-8. JSON is fine too, as YAML reads it.

| what | how |
|---|---|
| text | plain or in quotes. What some YAML readers take for something else must be quoted: `on`, `yes`, \
`012`, `1e3`, `12:30:45`, `2024-01-31` are errors |
| duration | `250ms`, `5s`, `1m30s`, `1.5h`, `7d`: units `ms` `s` `m` `h` `d`, never a bare number; from \
`1ms` to `30d` |
| size | `512B`, `8KiB`, `10MiB`, `2GiB`: steps of 1024; a bare number is bytes. `KB` and `MB` are refused, \
as they mean two things |
| id | 1 to 64 letters, digits, dots, underscores and hyphens |
| address | `10.0.0.1:8080`, `[fd00::1]:8080`; `localhost` is `127.0.0.1` |
| network | `10.0.0.0/8`, `fd00::/8`, or one address |
| host | a DNS name or an IP address; international names in their `xn--` form |

Unknown keys and duplicate keys are errors. Anchors (`&name`, `*name`) work; merge keys (`<<`) and tags do
not.

**Environment.** `${{NAME}}` inside a value is replaced by the variable, `${{NAME:-default}}` by the default
if the variable is empty or not set; without a default that is an error. What comes out reads as if it
stood there: `port: ${{PORT:-8080}}` is a number, `id: "${{NAME}}"` is text. Inside `{{ }}` and `[ ]` quote
the reference. A literal `${{` is written `$${{`.
"""

ALGORITHM = """\
Either a name, or a mapping of a name and options; [algorithms](algorithms.md) helps to choose. Other case is
understood (`LEAST_CONNECTIONS`), and so is `LEAST_CONN`.

```
algorithm: least_connections
algorithm: {name: consistent_hash, hash_key: "cookie:session", fallback: least_connections}
algorithm: {name: "my_policies:FillUp", room: 20}
```
[One of your own](algorithms.md#one-of-your-own) has the options that it declares.
"""

HEALTH_CHECK = """\
Either `off`, or a mapping of what differs from the `health_check` of all:

```
health_check: {interval: 1s, host: www.example.com, status: ["200-299", 404]}
health_check: {type: "my_probes:Database", options: {user: txlb}}
```
"""

RESERVED = """\
## Reserved

These keys are spoken for and do not work yet. A file may spell out their defaults; any other value is
refused.

| key | only | will be |
|---|---|---|
"""


def reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Top level\n", _table(Configuration)]
    for name, field in Configuration.model_fields.items():
        model = model_in(field.annotation)
        if model is not None and any(_working(model)):
            parts += [f"## {_shown_name(name, field)}\n", inspect.cleandoc(model.__doc__ or "") + "\n"]
            parts += [_table(model), _example(name, field, model)]
            parts += _below(name, field, model)
        if name == "routing_rules":
            parts += ["### algorithm\n", ALGORITHM, _table(Algorithm)]
        if name == "backends":
            parts += ["### health_check of a backend\n", HEALTH_CHECK, _table(BackendHealthCheck)]
    rows = [
        f"| `{path}` | `{_inline(field.get_default(call_default_factory=True))}` | {field.description} |\n"
        for path, field in _reserved(Configuration, "")
    ]
    return "\n".join([*parts, RESERVED]) + "".join(rows)


def _below(name: str, field: FieldInfo, model: type[BaseModel]) -> Iterator[str]:
    """The sections inside a section."""
    for key, one in _working(model):
        below = model_in(one.annotation)
        if below is not None and below is not Algorithm and kind_of(one) is None:
            path = f"{_shown_name(name, field)}.{key}"
            yield f"### {_shown_name(path, one)}\n"
            yield inspect.cleandoc(below.__doc__ or "") + "\n"
            yield _table(below)
            yield from _below(path, one, below)


def _working(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Fields that do something: not reserved, and no section of reserved ones alone."""
    for name, field in model.model_fields.items():
        below = model_in(field.annotation)
        kind = kind_of(field)
        if kind.works if kind is not None else below is not None and any(_working(below)):
            yield name, field


def _reserved(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind, below = kind_of(field), model_in(field.annotation)
        if kind is not None and not kind.works:
            yield prefix + name, field
        if below is not None:
            yield from _reserved(below, f"{prefix}{_shown_name(name, field)}.")


def kind_of(field: FieldInfo) -> Kind | None:
    """What annotates a field, or the entries of its list."""
    for note in field.metadata:
        if isinstance(note, Kind):
            return note
    return next(_kinds_in(field.annotation), None)


def _kinds_in(annotation: Any) -> Iterator[Kind]:
    for note in getattr(annotation, "__metadata__", ()):
        if isinstance(note, Kind):
            yield note
    for part in get_args(annotation):
        yield from _kinds_in(part)


def _shown_name(name: str, field: FieldInfo) -> str:
    if str(field.annotation).startswith("tuple["):
        return f"{name}[]"
    return f"{name}.STATUS" if str(field.annotation).startswith("dict[") else name


def _table(model: type[BaseModel]) -> str:
    rows = ["| key | value | default | meaning |\n|---|---|---|---|\n"]
    for name, field in _working(model):
        default = field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else f"`{_inline(default)}`"
        if default is None and "left out" in str(field.description).lower():
            shown = ""
        rows.append(f"| `{name}` | {_value(name, field)} | {shown} | {field.description} |\n")
    return "".join(rows)


def _value(name: str, field: FieldInfo) -> str:
    kind = kind_of(field)
    many = str(field.annotation).startswith("tuple[") and kind not in field.metadata
    below = model_in(field.annotation)
    if kind is None:
        if below is not None and "name" in below.model_fields:
            return "name"
        return "list, see below" if many else "see below"
    if name == "bind" and many:
        return f"{kind.name}, or a list of them"
    what = f"{kind.name} {kind.unit}".strip() if not kind.name.endswith("`") else kind.name
    return f"list of: {what}" if many else what


def _example(name: str, field: FieldInfo, model: type[BaseModel]) -> str:
    lines = [f"{key}: {_inline(one.examples[0])}" for key, one in _working(model) if one.examples]
    if name == "error_responses":
        lines = ["503:", *(f"  {line}" for line in lines if not line.startswith("body"))]
    if str(field.annotation).startswith("tuple["):
        lines = [("  " if index else "- ") + line for index, line in enumerate(lines)]
    text = "\n".join(f"  {line}" for line in lines)
    return f"```yaml\n{name}:\n{text}\n```\n"


def _inline(value: Any) -> str:
    """A value on one line, as a file would have it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value[0].isalnum() and ": " not in value and resolve_plain(value) == value
    return value if plain else json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(reference())
