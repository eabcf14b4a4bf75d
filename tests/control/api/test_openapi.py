"""`txlb.control.api.openapi`: it describes the routes that there are, and what they answer."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
import pytest_twisted
from support.admin import Admin

from txlb.control.api.app import AdminApi
from txlb.control.api.openapi import description

DOCUMENT = description()


def check(name: str, value: Any) -> None:
    """``value`` is what the schema of this name says."""
    jsonschema.validate(value, {**DOCUMENT, "$ref": f"#/components/schemas/{name}"})


def test_every_route_is_described_and_every_description_is_a_route():
    routes = {
        (method.lower(), re.sub("<[^>]*>", "{id}", rule.rule))
        for rule in AdminApi.app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    described = {(method, path) for path, calls in DOCUMENT["paths"].items() for method in calls}
    assert described == routes


def test_every_reference_leads_somewhere():
    references = re.findall(r"'\$ref': '#/components/schemas/([^']*)'", str(DOCUMENT))
    assert references
    assert set(references) <= set(DOCUMENT["components"]["schemas"])
    for one in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(one)


def test_every_path_parameter_is_declared():
    for path, calls in DOCUMENT["paths"].items():
        for call in calls.values():
            declared = [one["name"] for one in call.get("parameters", ()) if one["in"] == "path"]
            assert declared == re.findall(r"\{(\w+)\}", path)


def test_changes_need_a_body_and_what_is_described_is_accepted():
    check("Backend", {"id": "a", "host": "10.0.0.1", "port": 80})
    check("BackendPatch", {"weight": 2})
    check("Drain", {"timeout": "5m"})
    for bad in ({}, {"id": "b"}, {"weight": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            check("BackendPatch", bad)


@pytest_twisted.ensureDeferred
async def test_answers_are_as_described(admin: Admin):
    for path, name in (
        ("/health", "HealthView"),
        ("/connections", "ConnectionsView"),
        ("/backends", "BackendsView"),
        ("/backends/a", "BackendView"),
        ("/routing-rules", "RoutingRulesView"),
    ):
        answer = await admin.call("GET", path)
        assert answer.status == 200, path
        check(name, answer.json)
    served = await admin.call("GET", "/openapi.json")
    assert served.json == DOCUMENT
    check("Problem", (await admin.call("GET", "/nowhere")).json)
