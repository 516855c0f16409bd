"""openapi.json, written from the Structs that the service decodes and encodes."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import msgspec

from slatewise.serve.http.limits import MOST_OUTCOMES
from slatewise.serve.http.schema import (
    Feedback,
    FeedbackAnswer,
    Health,
    MaskRequest,
    Masks,
    Problem,
    RecommendAnswer,
    RecommendRequest,
)

REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 description of the service."""
    types = (RecommendRequest, Feedback, RecommendAnswer, FeedbackAnswer, MaskRequest, Masks, Health, Problem)
    _, components = msgspec.json.schema_components(types, ref_template=REF)
    outcome = {"$ref": REF.format(name="Feedback")}
    outcomes = {"type": "array", "items": outcome, "minItems": 1, "maxItems": MOST_OUTCOMES}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "slatewise",
            "version": metadata.version("slatewise"),
            "description": "Slates with exact propensities; what is served and what comes of it is logged.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/recommend": {
                "post": {
                    "operationId": "recommend",
                    "summary": "A slate for one user, and with which probability it was drawn.",
                    "requestBody": _body({"$ref": REF.format(name="RecommendRequest")}),
                    "responses": _responses("RecommendAnswer", "The slate, recorded.", "400", "413", "422", "503"),
                }
            },
            "/feedback": {
                "post": {
                    "operationId": "feedback",
                    "summary": "What users did: one outcome, or a list that is taken whole or not at all.",
                    "requestBody": _body({"anyOf": [outcome, outcomes]}),
                    "responses": _responses(
                        "FeedbackAnswer", "What became of each outcome.", "400", "404", "413", "422", "503"
                    ),
                }
            },
            **_mask_paths(),
            "/health": {
                "get": {
                    "operationId": "health",
                    "summary": "The service is up, and which policy it serves.",
                    "responses": _responses("Health", "It is.", "503"),
                }
            },
        },
        "components": {"schemas": components},
    }


_MASKED = "The mask in force from now on."
_REFUSALS = {
    "400": "The body is no JSON.",
    "403": "The service was not started with --admin.",
    "404": "The event is not known.",
    "413": "The body is too large.",
    "422": "The body is JSON, but cannot be used.",
    "503": "Nothing can be recorded; nothing was.",
}


def _mask_paths() -> dict[str, Any]:
    """What an administrator may do."""
    return {
        "/masks": {
            "get": {
                "operationId": "masks",
                "summary": "The items that are not shown until they are lifted.",
                "responses": _responses("Masks", "The mask in force.", "403"),
            },
            "put": {
                "operationId": "putMask",
                "summary": "Mask these items and lift all others.",
                "requestBody": _body({"$ref": REF.format(name="MaskRequest")}),
                "responses": _responses("Masks", _MASKED, "400", "403", "413", "422", "503"),
            },
            "delete": {
                "operationId": "liftMask",
                "summary": "Lift all masks.",
                "responses": _responses("Masks", _MASKED, "403", "503"),
            },
        },
        "/masks/{item_id}": {
            "parameters": [{"name": "item_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "put": {
                "operationId": "maskItem",
                "summary": "Mask one more item.",
                "responses": _responses("Masks", _MASKED, "403", "422", "503"),
            },
            "delete": {
                "operationId": "liftItem",
                "summary": "Lift the mask of an item.",
                "responses": _responses("Masks", _MASKED, "403", "422", "503"),
            },
        },
    }


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _responses(name: str, description: str, *refusals: str) -> dict[str, Any]:
    answers = {"200": _response(name, description)}
    return answers | {status: _response("Problem", _REFUSALS[status]) for status in refusals}


def _response(name: str, description: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(name=name)}}}
    return {"description": description, "content": content}
