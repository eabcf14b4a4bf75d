"""What a plain (unquoted) YAML scalar means.

Rules:

* ``true``, ``false``, ``null`` and nothing at all, plain integers and plain
  decimals resolve; everything else is text.
* What some YAML reader somewhere takes for something other than text is an
  error that says what to write instead: ``on``, ``yes``, ``~``, ``012``,
  ``0x1F``, ``1_000``, ``1e3``, ``12:30:45``, ``2024-01-31``.
* ``off`` is a word of the configuration: it is text where the caller says so.
* ``${NAME}`` and ``${NAME:-default}`` are replaced before that, the default also
  when the variable is empty; ``$${`` stands for ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Scalar = str | int | float | bool | None

_CONSTANTS: dict[str, bool | None] = {"": None, "null": None, "true": True, "false": False}
_INSTEAD = {
    **dict.fromkeys(("true", "yes", "on", "y"), "true"),
    **dict.fromkeys(("false", "no", "off", "n"), "false"),
    **dict.fromkeys(("null", "~"), "null"),
    "=": "null",
    "<<": "null",
}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_NUMBER_TO_SOME = re.compile(
    r"""[-+]?(?: 0[xX][0-9a-fA-F_]+ | 0[oO]?[0-7_]+ | 0[bB][01_]+
          | [0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?
          | \.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
          | [0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?
          | \.(?:inf|Inf|INF)
        ) | \.(?:nan|NaN|NAN)
        | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+).*)?""",
    re.VERBOSE,
)
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def resolve_plain(text: str) -> Scalar:
    """The value of an unquoted scalar; ValueError if readers disagree on it."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] in "0123456789+-.":
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _NUMBER_TO_SOME.fullmatch(text):
            raise ValueError(
                f"{text} is ambiguous in YAML: write a plain decimal number, or quote it as text"
            )
    elif len(text) <= 5 and (instead := _INSTEAD.get(text.lower())) is not None:
        raise ValueError(f'{text} is ambiguous in YAML: write {instead}, or "{text}" for the text')
    return text


def expand(text: str, environ: Mapping[str, str]) -> str:
    """``text`` with its ``${…}`` references replaced; ValueError if one cannot be."""

    def replacement(match: re.Match[str]) -> str:
        inner, closed = match.groups()
        if inner is None:
            return "${"
        if not closed:
            raise ValueError("${ without its } (a literal ${ is written $${)")
        parts = _NAME.fullmatch(inner)
        if parts is None:
            raise ValueError(f"${{{inner}}} is not a variable: write ${{NAME}} or ${{NAME:-default}}")
        name, default = parts.groups()
        value = environ.get(name)
        if default is not None:
            if "${" in default:
                raise ValueError(f"the default of ${{{name}}} cannot hold another reference")
            return value or default
        if value is None:
            raise ValueError(f"environment variable {name} is not set (a default is written ${{{name}:-…}})")
        return value

    result = _REFERENCE.sub(replacement, text)
    if not result.isascii():
        try:
            result.encode()
        except UnicodeEncodeError:
            raise ValueError("a variable in it is not UTF-8 text") from None
    return result
