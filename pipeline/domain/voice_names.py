"""What is said of a voice, its name first, and the readable id made of that."""

import hashlib
import re
import unicodedata

from pipeline.errors import InvalidInput

NAME_MAX = 80
DESCRIPTION_MAX = 500
CONSENT_MAX = 1000
VOICE_ID_MAX = 64
_JOINERS = "\u200c\u200d"  # Persian and emoji are spelled with them
_VOICE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_name(name: str) -> str:
    """Take a voice's name.

    Raises
    ------
    InvalidInput
        It is blank, too long, holds control characters, or has no letter and no digit in any script.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= NAME_MAX:
        raise InvalidInput(f"name should have 1 to {NAME_MAX} characters; it has {len(name)}.", field="name")
    if any(_is_control(character) for character in name):
        raise InvalidInput("name should hold no control characters.", field="name")
    if not any(character.isalnum() for character in name):
        raise InvalidInput("name should hold at least one letter or digit.", field="name")
    return name


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return (category.startswith("C") or category in {"Zl", "Zp"}) and character not in _JOINERS


def check_description(description: str) -> str:
    """Take a voice's description.

    Raises
    ------
    InvalidInput
        It is too long.
    """
    if len(description) > DESCRIPTION_MAX:
        raise InvalidInput(
            f"description should have at most {DESCRIPTION_MAX} characters; it has {len(description)}.",
            field="description",
        )
    return description


def check_consent(consent: str) -> str:
    """Take the words by which a voice's speaker agreed; they may be blank.

    Raises
    ------
    InvalidInput
        They are too long.
    """
    if len(consent) > CONSENT_MAX:
        raise InvalidInput(
            f"consent should have at most {CONSENT_MAX} characters; it has {len(consent)}.", field="consent"
        )
    return consent.strip()


def voice_id_of(name: str) -> str:
    """Make a readable id of a checked name: ASCII letters, digits and single hyphens, at most 64 of them.

    What transliteration leaves nothing of, or has to be cut, is told apart by a digest.
    """
    from slugify import slugify  # its tables take time to load, and only saving needs them

    slug = slugify(name)
    if 0 < len(slug) <= VOICE_ID_MAX:
        return slug
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{slug[: VOICE_ID_MAX - 9].rstrip('-') or 'voice'}-{digest}"


def is_voice_id(text: str) -> bool:
    """Tell whether the text has the form of a voice's id."""
    return len(text) <= VOICE_ID_MAX and _VOICE_ID.fullmatch(text) is not None
