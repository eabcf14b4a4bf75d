"""Strict YAML: text in, plain data and the place of every value out.

Rules:

* The text is UTF-8, one document, at most `MAX_BYTES`; JSON is read the same way.
* Duplicate keys, tags, merge keys (``<<``) and keys that are not scalars are
  errors; scalars resolve as `txlb.config.scalars` says.
* Anchors and aliases work, but nothing may contain itself, nest deeper than
  `MAX_DEPTH` or grow past `MAX_NODES` when its aliases are followed.
* Everything wrong is reported at once, except that text which is not YAML at all
  ends at its first error.

It works on the event stream of libyaml, not on composed nodes: no recursion, no
tag resolution by regular expressions, half the time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from txlb.config.document import Document, Mark, Place
from txlb.config.problems import Path, Problem, show_path
from txlb.config.scalars import expand, resolve_plain

MAX_BYTES = 32 * 2**20
MAX_DEPTH = 32
MAX_NODES = 1_000_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _GaveUp(Exception):
    """What follows could not be understood."""


class _Open:
    """A mapping or sequence whose end has not come yet."""

    __slots__ = ("anchor", "before", "data", "key", "key_mark", "places", "start")

    def __init__(self, data: Any, places: Any, start: Mark, anchor: str | None, before: int) -> None:
        self.data = data
        self.places = places
        self.start = start
        self.anchor = anchor
        self.before = before  # nodes seen before this one
        self.key: str | None = None
        self.key_mark: Mark = None


def read(
    source: str, raw: bytes, environ: Mapping[str, str], words: Mapping[str, Collection[str]]
) -> Document:
    """Read ``raw``; ``words`` says below which keys a word like ``off`` is text."""
    if len(raw) > MAX_BYTES:
        return _hopeless(source, 1, 1, f"the file is larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        start = raw.rfind(b"\n", 0, error.start) + 1
        column = len(raw[start : error.start].decode("utf-8", "replace")) + 1
        return _hopeless(source, line, column, f"the file is not UTF-8 text (byte 0x{raw[error.start]:02x})")
    try:
        return _Reader(source, text, environ, words).run()
    except yaml.MarkedYAMLError as error:
        mark: Mark = error.problem_mark or error.context_mark
        return _hopeless(source, mark.line + 1, mark.column + 1, _syntax(text, error, mark))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - before.rfind("\n")
        return _hopeless(
            source, before.count("\n") + 1, column, f"the file holds a character U+{error.character:04X}"
        )
    except yaml.YAMLError as error:
        return _hopeless(source, 1, 1, f"not valid YAML: {error}".splitlines()[0])


def _hopeless(source: str, line: int, column: int, message: str) -> Document:
    return Document(source, None, [Problem(source, line, column, "", message)])


def _syntax(text: str, error: yaml.MarkedYAMLError, mark: Mark) -> str:
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    hint = ""
    if "\t" in indent or line[mark.column : mark.column + 1] == "\t":
        hint = " (a tab: YAML is indented with spaces)"
    elif "${" in line:
        hint = ' (inside { } and [ ] a reference needs quotes: "${NAME}")'
    elif line[mark.column : mark.column + 1] in ("*", "%", "@", "`"):
        hint = " (text that starts with this character needs quotes)"
    context = f" {error.context}" if error.context else ""
    return f"not valid YAML: {error.problem or 'it ends too early'}{context}{hint}"


class _Reader:
    """Builds data and places from events, with a stack of its own."""

    def __init__(
        self, source: str, text: str, environ: Mapping[str, str], words: Mapping[str, Collection[str]]
    ) -> None:
        self._loader = _Loader(text)
        self._environ = environ
        self._words = words
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, Place, int] | None] = {}  # None while it is open
        self._nodes = 0
        self._document = Document(source, None)

    def run(self) -> Document:
        get_event = self._loader.get_event
        try:
            while (event := get_event()) is not None:
                kind = type(event)
                if kind is ScalarEvent:
                    self._scalar(event)
                elif kind is MappingStartEvent:
                    self._start(event, {}, {})
                elif kind is MappingEndEvent or kind is SequenceEndEvent:
                    self._end()
                elif kind is SequenceStartEvent:
                    self._start(event, [], [])
                elif kind is AliasEvent:
                    self._alias(event)
                elif kind is DocumentStartEvent and self._document.place is not None:
                    self._give_up(event.start_mark, "a second document: the configuration is one")
                if self._nodes > MAX_NODES:
                    self._give_up(event.start_mark, f"more than {MAX_NODES} values, aliases followed")
                if len(self._stack) > MAX_DEPTH:
                    self._give_up(event.start_mark, f"nested deeper than {MAX_DEPTH}")
        except _GaveUp:
            self._document.data = self._document.place = None
        finally:
            self._loader.dispose()
        return self._document

    def _scalar(self, event: ScalarEvent) -> None:
        mark, text = event.start_mark, event.value
        top = self._stack[-1] if self._stack else None
        if event.tag is not None:
            self._fail(mark, f"tags are not supported ({event.tag[:80]})")
        if top is not None and type(top.data) is dict and top.key is None:
            self._nodes += 1
            if event.anchor is not None:
                self._anchors[event.anchor] = (text, (mark, None), 1)
            self._key(top, text, mark)
            return
        value: Any = text
        try:
            if "${" in text:
                value = text = expand(text, self._environ)
            if event.implicit[0]:
                key = top.key if top is not None else None
                if key is None or key not in self._words.get(text, ()):
                    value = resolve_plain(text)
        except ValueError as error:
            self._fail(mark, str(error))
        place = (mark, None)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, place, 1)
        self._nodes += 1
        self._add(value, place)

    def _key(self, top: _Open, text: str, mark: Mark) -> None:
        top.key, top.key_mark = text, mark
        if text == "<<":
            self._fail(mark, "merge keys (<<) are not supported: write the keys out")
        elif text in top.places:
            first = top.places[text][0]
            self._fail(mark, f"duplicate key (first on line {first.line + 1})")

    def _start(self, event: Any, data: Any, places: Any) -> None:
        self._not_a_key(event.start_mark)
        if event.tag is not None:
            self._fail(event.start_mark, f"tags are not supported ({event.tag[:80]})")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(data, places, event.start_mark, event.anchor, self._nodes))
        self._nodes += 1

    def _end(self) -> None:
        done = self._stack.pop()
        place = (done.start, done.places)
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.data, place, self._nodes - done.before)
        self._add(done.data, place)

    def _alias(self, event: AliasEvent) -> None:
        self._not_a_key(event.start_mark)
        anchor = str(event.anchor)
        found = self._anchors.get(anchor)
        if found is None:
            what = f"*{anchor} contains itself" if anchor in self._anchors else f"no anchor &{anchor}"
            self._fail(event.start_mark, what)
            found = (None, (event.start_mark, None), 1)
        data, place, nodes = found
        self._nodes += nodes
        self._add(data, place)

    def _add(self, value: Any, place: Place) -> None:
        if not self._stack:
            self._document.data, self._document.place = value, place
            return
        top = self._stack[-1]
        if type(top.data) is dict:
            top.data[top.key] = value
            top.places[top.key] = (top.key_mark, place)
            top.key = None
        else:
            top.data.append(value)
            top.places.append(place)

    def _not_a_key(self, mark: Mark) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and type(top.data) is dict and top.key is None:
            self._give_up(mark, "a key must be plain text")

    def _give_up(self, mark: Mark, message: str) -> NoReturn:
        self._fail(mark, message)
        raise _GaveUp

    def _fail(self, mark: Mark, message: str) -> None:
        path: Path = tuple(
            frame.key or "" if type(frame.data) is dict else len(frame.data) for frame in self._stack
        )
        if path and path[-1] == "":
            path = path[:-1]
        document = self._document
        document.problems.append(
            Problem(document.source, mark.line + 1, mark.column + 1, show_path(path), message)
        )
