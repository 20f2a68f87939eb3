"""Validation of a voice's name and texts, and the readable id derived from the name."""

import hashlib
import re
import unicodedata

from pipeline.errors import InvalidInput

NAME_MAX = 80
DESCRIPTION_MAX = 500
CONSENT_MAX = 1000
VOICE_ID_MAX = 64
_NUMBER_ROOM = 6  # for a hyphen and a number
_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}  # Unicode's categories
_JOINERS = "\u200c\u200d"  # Persian and emoji are spelled with them
_VOICE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_name(name: str, *, field: str = "name") -> str:
    """Return the name of a voice or a person if it is valid.

    Raises
    ------
    InvalidInput
        It is blank, too long, holds control characters, or has no letter and no digit in any script.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= NAME_MAX:
        raise InvalidInput(f"{field} should have 1 to {NAME_MAX} characters. It has {len(name)}.", field=field)
    _check_characters(name, field=field)
    if not any(character.isalnum() for character in name):
        raise InvalidInput(f"{field} should have at least one letter or digit.", field=field)
    return name


def _check_characters(text: str, *, field: str) -> None:
    """Reject control and formatting characters, which are invisible and can be used for spoofing."""
    for character in text:
        if unicodedata.category(character) in _INVISIBLE and character not in _JOINERS:
            raise InvalidInput(
                f"{field} should have no control or bidirectional formatting characters. "
                f"It has U+{ord(character):04X}.",
                field=field,
            )


def check_description(description: str) -> str:
    """Return a voice's description if it is valid.

    Raises
    ------
    InvalidInput
        It is too long, or holds control or bidirectional formatting characters.
    """
    if len(description) > DESCRIPTION_MAX:
        raise InvalidInput(
            f"description should have at most {DESCRIPTION_MAX} characters. It has {len(description)}.",
            field="description",
        )
    _check_characters(description, field="description")
    return description


def check_consent(consent: str) -> str:
    """Return the text of a speaker's consent if it is valid. It may be blank.

    Raises
    ------
    InvalidInput
        It is too long.
    """
    if len(consent) > CONSENT_MAX:
        raise InvalidInput(
            f"consent should have at most {CONSENT_MAX} characters. It has {len(consent)}.", field="consent"
        )
    return consent.strip()


def is_same_name(one: str, other: str) -> bool:
    """Return whether two names are equal, ignoring case, surrounding spaces and the form of composed characters."""
    return _compared(one) == _compared(other)


def voice_id_of(name: str) -> str:
    """Return a readable id for a validated name: ASCII letters, digits and single hyphens, at most 64 characters.

    If the transliteration is empty or longer, a digest makes the id distinct.
    """
    slug = _slug_of(name)
    return slug if 0 < len(slug) <= VOICE_ID_MAX else _with_digest(slug, name, VOICE_ID_MAX)


def distinct_voice_id_of(name: str) -> str:
    """Return an id for a validated name that no other name has. A hyphen and a number can be added to it."""
    return _with_digest(_slug_of(name), _compared(name), VOICE_ID_MAX - _NUMBER_ROOM)


def _slug_of(name: str) -> str:
    from slugify import slugify  # its tables are slow to load, and only saving needs them

    return str(slugify(name))


def _with_digest(slug: str, text: str, length: int) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{slug[: length - 9].rstrip('-') or 'voice'}-{digest}"


def _compared(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).strip().casefold())


def is_voice_id(text: str) -> bool:
    """Return whether the text has the form of a voice's id."""
    return len(text) <= VOICE_ID_MAX and _VOICE_ID.fullmatch(text) is not None
