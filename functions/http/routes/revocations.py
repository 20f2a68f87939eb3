"""`/revocations`: certificates of deleted voices."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.http.routing.authorized_route import AuthorizedRoute, route_options
from functions.http.routing.dependencies import FromCaller, FromResources
from pipeline.contract.records import RevocationReason, UtcSeconds
from pipeline.contract.revocations import Certificate
from pipeline.domain.revocation import revoke
from pipeline.errors import NotFound, Unavailable

router = APIRouter(tags=["voices"], route_class=AuthorizedRoute)


class RemovedObjectView(BaseModel):
    """An object that was removed."""

    kind: str = Field(description="Such as `recording`, `prompt`, `preview`, `job` or `stored_response`")
    key: str = Field(description="Its key in the storage")
    versions: int = Field(description="Number of removed versions")
    removed_at: UtcSeconds | None


class RemainingDataView(BaseModel):
    """Data that was not removed."""

    kind: str
    key: str | None = Field(description="Its key in the storage, if it is one object")
    reason: str
    expires_at: UtcSeconds | None = Field(description="When it is deleted, if it is")


class CertificateView(BaseModel):
    """The removed objects of a voice, and the remaining ones."""

    revocation_id: str
    voice_id: str
    reason: RevocationReason
    requested_at: UtcSeconds
    completed_at: UtcSeconds | None = Field(description="When the sweep checked the removal again")
    removed: list[RemovedObjectView]
    remaining: list[RemainingDataView]


def certificate_view(certificate: Certificate) -> CertificateView:
    """Return the view of a certificate."""
    return CertificateView.model_validate(certificate.model_dump())


@router.get("/revocations/{revocation_id}", **route_options("voices:write", NotFound, Unavailable))
async def get_revocation(revocation_id: str, caller: FromCaller, resources: FromResources) -> CertificateView:
    """Return the certificate of a deleted voice."""
    return certificate_view(await revoke.get(resources, caller.owner, revocation_id))
