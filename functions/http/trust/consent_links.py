"""The links of a consent's speaker, which need no key: the receipt and the revocation; and the public key."""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from functions.http.responses import problems
from functions.http.routes.revocations import certificate_view
from functions.http.routing.authorized_route import AuthorizedRoute, public
from functions.http.routing.dependencies import FromResources
from functions.http.trust.consent_views import PublicKey, RevokedConsent, SignedReceipt
from pipeline.domain.consents import found
from pipeline.domain.revocation.consents import revoke_consent as revoke
from pipeline.errors import Forbidden, InvalidInput, NotFound, Unavailable
from pipeline.provenance import receipts
from pipeline.provenance.signing_key import signing_key

router = APIRouter(tags=["consents"], route_class=AuthorizedRoute)

Token = Annotated[str, Query(min_length=1, max_length=64, description="The token in the speaker's link")]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Cache-Control": {"description": "`no-store`", "schema": {"type": "string"}}}}
}
_ERRORS = problems.answers(InvalidInput.code, Forbidden.code, NotFound.code, Unavailable.code)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Revoke a consent</title>
<h1>Revoke a consent</h1>
<p>This deletes the copy of your voice, your recordings and the audio made from them. It can't be undone.</p>
<form method="post"><button>Revoke my consent</button></form>
</html>
"""
_PAGE_HEADERS = {
    "Content-Type": "text/html",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    # With `no-referrer`, browsers send forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@router.get(receipts.RECEIPT_PATH, responses=_ANSWERS | _ERRORS, openapi_extra=public())
async def get_receipt(
    consent_id: str, token: Token, request: Request, resources: FromResources, response: Response
) -> SignedReceipt:
    """Return the signed receipt of a consent to its speaker."""
    consent = await found.find_for_speaker(resources, consent_id, token)
    signed = await receipts.receipt(resources, consent, token, str(request.base_url))
    response.headers["Cache-Control"] = "no-store"
    return SignedReceipt.model_validate(signed)


@router.get(
    receipts.REVOCATION_PATH, response_class=HTMLResponse, responses=_ANSWERS | _ERRORS, openapi_extra=public()
)
async def get_revocation_page(consent_id: str, token: Token, resources: FromResources) -> HTMLResponse:
    """Return a page with a button that revokes a consent."""
    await found.find_for_speaker(resources, consent_id, token)
    return HTMLResponse(_PAGE, headers=_PAGE_HEADERS)


@router.post(receipts.REVOCATION_PATH, responses=_ERRORS, openapi_extra=public())
async def revoke_consent(consent_id: str, token: Token, resources: FromResources) -> RevokedConsent:
    """Revoke a consent for its speaker: delete the voices with it, and everything made from them."""
    consent = await found.find_for_speaker(resources, consent_id, token)
    certificates = [certificate_view(made) for made in await revoke(resources, consent)]
    return RevokedConsent(consent_id=consent_id, revoked_at=resources.clock(), certificates=certificates)


@router.get("/signing-key", responses=problems.answers(Unavailable.code), openapi_extra=public())
async def get_signing_key(resources: FromResources) -> PublicKey:
    """Return the public key that verifies receipts."""
    key = await signing_key(resources)
    return PublicKey(key_id=key.key_id, public_key=base64.b64encode(key.public_bytes).decode())
