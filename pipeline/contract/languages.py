"""The languages of the model, and their BCP 47 tags."""

import re
from typing import Literal, get_args

SpokenLanguage = Literal[
    "Chinese",
    "English",
    "French",
    "German",
    "Italian",
    "Japanese",
    "Korean",
    "Portuguese",
    "Russian",
    "Spanish",
]
# By full English name. With `Auto` the model detects the language.
LANGUAGES: tuple[str, ...] = ("Auto", *get_args(SpokenLanguage))

# BCP 47 tags begin with a code of the language (ISO 639).
LANGUAGE_CODES = {
    "zh": "Chinese",
    "cmn": "Chinese",
    "en": "English",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "pt": "Portuguese",
    "ru": "Russian",
    "es": "Spanish",
}
_LANGUAGE_TAG = re.compile(r"(?P<code>[a-z]{2,3})([-_][a-z0-9]{1,8})*")
LANGUAGE_TAG_MAX = 35  # RFC 5646 recommends room for as many characters


def language_named(value: object) -> str:
    """Return the name of a language, given by its name or by a tag, in any case.

    Raises
    ------
    ValueError
        The model does not speak it. The message completes a sentence about the field.
    """
    given = value.strip().lower() if isinstance(value, str) else ""
    for name in LANGUAGES:
        if name.lower() == given:
            return name
    tag = _LANGUAGE_TAG.fullmatch(given) if len(given) <= LANGUAGE_TAG_MAX else None
    if tag is None or tag["code"] not in LANGUAGE_CODES:
        raise ValueError(f"should be one of {', '.join(LANGUAGES)}, or a tag such as en or zh-CN")
    return LANGUAGE_CODES[tag["code"]]
