"""What every mapping of the configuration has in common: unknown keys are errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

REQUIRED: Any = ...


def key(default: Any, description: str, example: Any = None) -> Any:
    """A field of a model; ``default`` as a file would spell it, `REQUIRED` if there is none."""
    examples = None if example is None else [example]
    return Field(default, description=description, examples=examples)


class Section(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
