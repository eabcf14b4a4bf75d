"""Algorithms of the operator's own, as the configuration names them: looked up, options checked, tried once.

Rules:

* Options are validated by the factory's ``Options`` model; without one there are none. What it makes of them
  (as JSON values) is what the algorithm gets, in every worker.
* An option that the model does not know is an error, as any unknown key, unless the model's own ``extra``
  says what becomes of it.
* One is built at load and must honour `txlb.interfaces.IAlgorithm`: a class that cannot be built is an error
  in the file, not a surprise in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError, create_model

from txlb.config.problems import Suggestions
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
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or issubclass(model, RootModel):
            raise ValueError(f"{name}: its Options is not a pydantic model")
        try:
            options = _strict(model).model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as error:
            return (), [_problem(detail, model) for detail in error.errors(include_url=False)]
    try:
        make_algorithm(factory, options)
    except AlgorithmError as why:
        raise ValueError(str(why)) from None
    except Exception as why:
        raise ValueError(f"{name} cannot be built: {why!r:.200}") from None
    return tuple(options.items()), []


def _strict(model: type[BaseModel]) -> type[BaseModel]:
    """``model``, refusing what it does not know unless it says something else itself."""
    if "extra" in model.model_config:
        return model
    return create_model(model.__name__, __base__=model, __cls_kwargs__={"extra": "forbid"})


def _problem(detail: Any, model: type[BaseModel]) -> tuple[str, str]:
    """What pydantic found, in words of ours where it is an unknown key."""
    where = str(detail["loc"][0]) if detail["loc"] else "name"
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return where, f"unknown key{Suggestions().near(where, model.model_fields)}"
    return where, detail["msg"]
