"""Creation, recording, check and review of consents."""

from typing import Annotated

from fastapi import APIRouter, File, Query, Request, Response, UploadFile

from functions.http.openai.recordings import check_recording
from functions.http.parameters.prefer import parse_prefer
from functions.http.previews.response import Prefer
from functions.http.responses import problems
from functions.http.routes.voices import SavedVoice
from functions.http.routes.voices import view as view_of_voice
from functions.http.routing.authorized_route import AuthorizedRoute, requires, route_options
from functions.http.routing.dependencies import FromCaller, FromResources, FromServices
from functions.http.trust.consent_views import (
    ConsentDetails,
    ConsentPage,
    CreatedConsent,
    Decision,
    KeptConsentId,
    NewConsent,
    view,
)
from functions.previews.reference_checks import check_session, longest_wait
from pipeline.audio.wav import WAV
from pipeline.contract.records import ConsentReview
from pipeline.domain.consents import found, giving, kept, recorded, review
from pipeline.errors import Expired, InvalidAudio, InvalidInput, NameTaken, NotFound, TooLarge, Unavailable
from pipeline.provenance import receipts

_GIVING_ERRORS = (InvalidInput, InvalidAudio, TooLarge, NotFound, NameTaken, Unavailable)

# Without idempotency keys: their records would contain the links of the speaker.
router = APIRouter(tags=["consents"], route_class=AuthorizedRoute)


@router.post(
    "/consents",
    status_code=201,
    **route_options("voices:write", InvalidInput, InvalidAudio, NotFound, Expired, Unavailable),
)
async def create_consent(
    consent: NewConsent, request: Request, caller: FromCaller, resources: FromResources
) -> CreatedConsent:
    """Return the statement that a speaker reads aloud to consent, and the speaker's links."""
    if (consent.session_id is None) == (consent.voice_id is None):
        raise InvalidInput("Send either session_id or voice_id.", field="session_id")
    reference = consent.reference(caller.owner)
    stored, token = await giving.prepare(resources, caller.owner, reference, consent.terms(), consent.language)
    shown = view(stored.consent_id, stored.record, resources.settings)
    base_url = str(request.base_url)
    return CreatedConsent(
        **dict(shown),
        receipt_url=receipts.link(base_url, receipts.RECEIPT_PATH, stored.consent_id, token),
        revocation_url=receipts.link(base_url, receipts.REVOCATION_PATH, stored.consent_id, token),
    )


@router.get("/consents", **route_options("voices:write", InvalidInput, Unavailable))
async def list_consents(
    caller: FromCaller,
    resources: FromResources,
    limit: Annotated[int, Query(ge=1, le=100, description="Maximum number of results")] = 20,
    after: Annotated[str, Query(max_length=32, description="Return the consents after this id")] = "",
) -> ConsentPage:
    """List the recorded consents, oldest first: with the scope `admin` those of all owners."""
    owner = None if caller.may("admin") else caller.owner
    listed, has_more = await recorded.page(resources, owner, limit=limit, after=after)
    shown = [view(stored.consent_id, stored.record, resources.settings) for stored in listed]
    return ConsentPage(consents=shown, next=shown[-1].consent_id if has_more else None)


@router.get("/consents/{consent_id}", **route_options("voices:write", NotFound, Unavailable))
async def get_consent(consent_id: str, caller: FromCaller, resources: FromResources) -> ConsentDetails:
    """Return one consent."""
    consent = await found.find_for(resources, caller, consent_id)
    return view(consent_id, consent.record, resources.settings)


@router.post(
    "/consents/{consent_id}/recording",
    responses={
        200: {"headers": {"Preference-Applied": {"description": "RFC 7240", "schema": {"type": "string"}}}},
        **problems.answers(*(error.code for error in _GIVING_ERRORS)),
    },
    openapi_extra=requires("voices:write"),
)
async def give_consent(
    consent_id: str,
    caller: FromCaller,
    services: FromServices,
    request: Request,
    response: Response,
    recording: Annotated[UploadFile, File(description="Recording of the statement: WAV, FLAC, OGG or MP3")],
    _prefer: Prefer = "",
) -> ConsentDetails:
    """Store the recording of a consent's statement, and check it.

    `check` is null if the check takes longer than the request. It can then be read later.
    """
    resources = services.resources
    checked = await check_recording(resources, recording.read, field="recording")
    await giving.give(resources, caller.owner, consent_id, checked)
    seconds, applied = parse_prefer(request.headers.getlist("prefer"), longest_wait(resources))
    await check_session(resources, services.waiters, caller.owner, consent_id, wait_seconds=seconds, kind="consent")
    if applied:
        response.headers["Preference-Applied"] = applied
    stored = await recorded.get(resources, caller.owner, consent_id)
    return view(consent_id, stored.record, resources.settings)


@router.get(
    "/consents/{consent_id}/recording",
    response_class=Response,
    responses={
        200: {"description": "The recording", "content": {WAV: {"schema": {"type": "string", "format": "binary"}}}}
    }
    | route_options("voices:write", NotFound, Unavailable)["responses"],
    openapi_extra=requires("voices:write"),
)
async def get_recording(consent_id: str, caller: FromCaller, resources: FromResources) -> Response:
    """Return the recording of a consent, for its review."""
    consent = await found.find_for(resources, caller, consent_id)
    return Response(await found.recording_of(resources, consent), media_type=WAV)


@router.post("/consents/{consent_id}/review", **route_options("admin", InvalidInput, NotFound, Unavailable))
async def review_consent(
    consent_id: str, decision: Decision, caller: FromCaller, resources: FromResources
) -> ConsentDetails:
    """Accept or reject a consent after listening to its recording."""
    made = ConsentReview(
        decision=decision.decision, reviewed_at=resources.clock(), key_id=caller.key_id, note=decision.note
    )
    consent = await review.decide(resources, consent_id, made)
    return view(consent_id, consent.record, resources.settings)


@router.put("/voices/{voice_id}/consent", **route_options("voices:write", InvalidInput, NotFound, Unavailable))
async def keep_consent(
    voice_id: str, consent: KeptConsentId, caller: FromCaller, resources: FromResources
) -> SavedVoice:
    """Keep a recorded consent with a saved voice, in place of the one before."""
    return view_of_voice(await kept.attach(resources, caller.owner, voice_id, consent.consent_id))
