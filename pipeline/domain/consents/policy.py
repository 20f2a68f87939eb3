"""The setting `CONSENT`: whether a reference may be saved or used with the consent that it has."""

from pipeline.clients.resources import Resources
from pipeline.contract.records import KeptConsent, RecordedConsent
from pipeline.errors import ConsentRequired

Consent = KeptConsent | RecordedConsent | None

_HOW = "Upload the recording, record the speaker's consent with POST /consents, and send the session_id."


def check(resources: Resources, consent: Consent, language: str = "Auto", *, field: str) -> None:
    """Check that a reference may be saved, or used for a language.

    Raises
    ------
    ConsentRequired
        `CONSENT` is `require`, and the consent is missing, not valid, or does not include the language.
    """
    if resources.settings.consent == "require":
        _require(resources, consent, language, field)


def _require(resources: Resources, consent: Consent, language: str, field: str) -> None:
    if consent is None or consent.reference_sha256 is None:
        raise ConsentRequired(f"This reference has no consent of its speaker. {_HOW}", field=field)
    if consent.status == "rejected":
        raise ConsentRequired("The consent was rejected in a review. Create another consent.", field=field)
    if consent.status == "unverified":
        raise ConsentRequired(
            "The consent is not verified. An administrator can accept it with POST /consents/{consent_id}/review.",
            field=field,
        )
    if consent.expires_at is not None and consent.expires_at <= resources.clock():
        raise ConsentRequired(f"The consent expired at {consent.expires_at:%Y-%m-%dT%H:%M:%SZ}.", field=field)
    if consent.languages and language != "Auto" and language not in consent.languages:
        raise ConsentRequired(
            f"The consent includes {', '.join(consent.languages)}, not {language}.", field="language"
        )
