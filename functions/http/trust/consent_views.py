"""The bodies of requests and responses about consents."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from functions.http.routes.revocations import CertificateView
from functions.previews.requests import WholeText
from pipeline.contract import retention
from pipeline.contract.records import (
    ConsentCheck,
    ConsentReview,
    ConsentStatus,
    KeptConsent,
    RecordedConsent,
    Source,
    UtcSeconds,
)
from pipeline.domain.consents.giving import PURPOSES_MAX, Terms
from pipeline.domain.voice_names import NAME_MAX
from pipeline.ids import Owner
from pipeline.settings import Settings


class NewConsent(BaseModel):
    """The reference of a consent, its terms, and the language of the statement."""

    model_config = ConfigDict(strict=True, extra="forbid")

    session_id: WholeText | None = Field(None, description="The upload that the consent is for")
    voice_id: WholeText | None = Field(None, description="The saved voice that the consent is for")
    person: WholeText = Field(description=f"Name of the speaker, at most {NAME_MAX} characters")
    purposes: list[WholeText] = Field(description=f"1 to {PURPOSES_MAX} purposes")
    languages: list[WholeText] = Field(default=[], description="Languages that the voice may speak, empty for all")
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = Field(None, description="ISO 8601")
    language: WholeText = Field(description="Language of the statement, by its name or tag")

    def reference(self, owner: Owner) -> Source:
        """Return the reference.

        Raises
        ------
        ValueError
            Not exactly one is given.
        """
        return Source(session_id=self.session_id, voice_id=self.voice_id, owner=owner)

    def terms(self) -> Terms:
        """Return the terms."""
        return Terms(self.person, self.purposes, self.languages, self.expires_at)


class ConsentDetails(BaseModel):
    """A recorded consent."""

    consent_id: str
    status: ConsentStatus
    person: str | None
    purposes: tuple[str, ...]
    languages: tuple[str, ...] = Field(description="Languages that the voice may speak, empty for all")
    operator: str | None
    language: str | None = Field(description="Language of the statement")
    statement: str = Field(description="The words to read aloud")
    given_at: UtcSeconds | None = Field(description="When the recording was stored")
    expires_at: UtcSeconds | None
    reference_sha256: str | None = Field(description="SHA-256 of the reference as WAV, in hex")
    recording_sha256: str | None = Field(description="SHA-256 of the recording as WAV, in hex")
    check: ConsentCheck | None = Field(description="Scores and limits of the check")
    review: ConsentReview | None
    kept_until: UtcSeconds | None = Field(description="When it is deleted, None if a voice keeps it")


class CreatedConsent(ConsentDetails):
    """A new consent, with the speaker's links. They are shown only once."""

    receipt_url: str
    revocation_url: str


class ConsentPage(BaseModel):
    """One page of consents, oldest first."""

    consents: list[ConsentDetails]
    next: str | None = Field(None, description="The value of `after` for the next page")


class Decision(BaseModel):
    """The decision about a consent."""

    model_config = ConfigDict(strict=True, extra="forbid")

    decision: Literal["accepted", "rejected"]
    note: WholeText = Field("", max_length=500)


class KeptConsentId(BaseModel):
    """The consent to keep with a voice."""

    model_config = ConfigDict(strict=True, extra="forbid")

    consent_id: WholeText


class RevokedConsent(BaseModel):
    """The confirmation that a consent was revoked."""

    consent_id: str
    revoked_at: UtcSeconds
    certificates: list[CertificateView] = Field(description="One for each voice that was deleted")


class ReceiptSignature(BaseModel):
    """An Ed25519 signature (RFC 8032) of the receipt in the form of RFC 8785."""

    algorithm: Literal["Ed25519"]
    key_id: str
    value: str = Field(description="Base64")


class SignedReceipt(BaseModel):
    """A receipt and its signature."""

    receipt: dict[str, str | list[str] | None]
    signature: ReceiptSignature


class PublicKey(BaseModel):
    """The key that verifies the signatures of the service."""

    algorithm: Literal["Ed25519"] = "Ed25519"
    key_id: str
    public_key: str = Field(description="32 bytes in base64")


def view(consent_id: str, record: RecordedConsent | KeptConsent, settings: Settings) -> ConsentDetails:
    """Return the view of a consent."""
    is_upload = isinstance(record, RecordedConsent)
    fields = record.model_dump(exclude={"check", "review"}) | {
        "consent_id": consent_id,
        "status": record.status,
        "statement": record.text,
        "check": record.check,
        "review": record.review,
        "kept_until": retention.upload_expires_at(consent_id, settings) if is_upload else None,
    }
    return ConsentDetails.model_validate(fields)
