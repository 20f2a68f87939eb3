"""Strict JSON for input of clients: UTF-8, and no ambiguous content such as duplicate names."""

import json
from typing import Any, NoReturn

from pipeline.errors import InvalidInput

DIGITS_MAX = 100
DEPTH_MAX = 32
MEMBERS_MAX = 64  # of the outermost object


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises
    ------
    ValueError
        It is not valid JSON. The message completes a sentence such as "The body …".
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_object, parse_int=_integer, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"should be JSON in UTF-8. Byte {error.start} is not UTF-8.") from error
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip()):
            raise ValueError("is cut: it ends before its JSON does. Send it whole.") from error
        raise ValueError(f"should be JSON. Line {error.lineno}, column {error.colno} is not.") from error
    except RecursionError as error:
        raise ValueError("nests arrays or objects too deeply.") from error


def check_values(parsed: Any) -> None:
    """Check that parsed JSON can be processed and serialized again.

    Raises
    ------
    InvalidInput
        It has too many members, is nested too deeply, or has a string with a lone surrogate, which JSON can escape
        and UTF-8 can't encode. `field` is the member of the outermost object.
    """
    members = parsed.items() if isinstance(parsed, dict) else [("body", parsed)]
    if len(members) > MEMBERS_MAX:  # each unknown one would be an error of its own
        raise InvalidInput(f"The body has {len(members)} fields. It should have at most {MEMBERS_MAX}.")
    for name, value in members:
        if not _is_encodable(name):
            raise InvalidInput(
                f"The name {_shown(name)} has half of a surrogate pair. Names should be Unicode text."
            )
        _check_value(value, name[:64], depth=1)


def _check_value(value: Any, field: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidInput(f"{field} has more than {DEPTH_MAX} levels of arrays and objects.", field=field)
    if isinstance(value, str) and not _is_encodable(value):
        raise InvalidInput(f"{field} has half of a surrogate pair. It should be Unicode text.", field=field)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            _check_value(item, field, depth + 1)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise ValueError(f"has {_shown(name)} twice. Every name should be there once.")
        found[name] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"has a number of {len(digits)} digits. JSON's should have at most {DIGITS_MAX}.")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"should be JSON, which has no {name}.")


def _shown(name: str) -> str:
    # JSON can escape a lone surrogate, which UTF-8 can't encode.
    return repr(name[:64].encode("ascii", "backslashreplace").decode())
