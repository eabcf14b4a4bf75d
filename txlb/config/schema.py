"""The configuration as JSON Schema 2020-12, for editors: ``twistd txlb --print-schema``.

It describes the file before references are replaced: where a number is expected, text
with a ``${NAME}`` in it is fine too. What needs more than one key it does not know.
"""

from __future__ import annotations

from typing import Any

from txlb.config.kinds import RESERVED
from txlb.config.models import Configuration

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """A fresh schema, with a description on every key."""
    result = Configuration.model_json_schema(mode="validation")
    models = result["$defs"]
    for model in [result, *models.values()]:
        model.pop("title", None)
        for entry in model.get("properties", {}).values():
            entry.pop("title", None)
            if "description" not in entry:  # the same as its model's
                entry["description"] = models[entry["$ref"].rpartition("/")[2]]["description"]
            if entry.pop(RESERVED, False):
                entry["description"] += " Not supported yet."
    return {"$schema": DIALECT, "title": "txlb configuration", **result}
