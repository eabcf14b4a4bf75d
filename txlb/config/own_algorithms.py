"""Algorithms of the operator's own, as the configuration names them: looked up, options checked, tried once.

Rules:

* Options are validated by the factory's ``Options`` model; without one there are none. What it makes of them
  (as JSON values) is what the algorithm gets, in every worker.
* One is built at load and must honour `txlb.interfaces.IAlgorithm`: a class that cannot be built is an error
  in the file, not a surprise in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from txlb.core.algorithms import make_algorithm
from txlb.errors import AlgorithmError, ExtensionError
from txlb.extensions import find_algorithm

Options = tuple[tuple[str, Any], ...]
Problems = list[tuple[str, str]]  # option, what is wrong with it


def examine(name: str, given: Mapping[str, Any]) -> tuple[Options, Problems]:
    """The options as the algorithm gets them; ValueError if the algorithm itself is of no use."""
    try:
        factory = find_algorithm(name)
    except ExtensionError as why:
        raise ValueError(f"{name}: {why}") from None
    model = factory.Options
    if model is None:
        if given:
            return (), [(option, f"{name} takes no options") for option in given]
        options: dict[str, Any] = {}
    else:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ValueError(f"{name}: its Options is not a pydantic model")
        try:
            options = model.model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as error:
            return (), [
                (str(detail["loc"][0]) if detail["loc"] else "name", detail["msg"])
                for detail in error.errors(include_url=False)
            ]
    try:
        make_algorithm(factory, options)
    except AlgorithmError as why:
        raise ValueError(str(why)) from None
    except Exception as why:
        raise ValueError(f"{name} cannot be built: {why!r:.200}") from None
    return tuple(options.items()), []
