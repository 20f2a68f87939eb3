"""Pydantic's validation errors as messages for clients and operators."""

from collections.abc import Mapping
from typing import Any

_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is no field of this request",
    "string_type": "should be a string",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
_OBJECT = "should be a JSON object"
_LENGTH_TYPES = {"too_short", "too_long"}  # of lists, and of strings after another validator
_OBJECT_TYPES = {"dict_type", "model_type", "model_attributes_type"}
_PREFIXES = ("Value error, ", "Input ", "String ")


def message_of(error: Mapping[str, Any]) -> str:
    """Return a message that states what is wrong with a field and what is valid; its subject is the field.

    `error` is one item of `ValidationError.errors()`.
    """
    if error["type"] in _OBJECT_TYPES:
        return _OBJECT
    if error["type"] in _LENGTH_TYPES:
        bound, limit = next(item for item in error["ctx"].items() if item[0] in {"min_length", "max_length"})
        unit = "characters" if error["ctx"]["field_type"] in {"Value", "String"} else "items"
        return f"should have at {'least' if bound == 'min_length' else 'most'} {limit} {unit}"
    message: str = _MESSAGES.get(error["type"], error["msg"])
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return message
