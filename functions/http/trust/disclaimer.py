"""`/disclaimer`: the audible labels of an owner's speech."""

from fastapi import APIRouter
from pydantic import ConfigDict

from functions.http.routing.authorized_route import AuthorizedRoute, route_options
from functions.http.routing.dependencies import FromCaller, FromResources
from pipeline.errors import InvalidInput, Unavailable
from pipeline.provenance import disclaimers
from pipeline.provenance.disclaimers import DisclaimerSettings

router = APIRouter(tags=["voices"], route_class=AuthorizedRoute)


class DisclaimerRequest(DisclaimerSettings):
    """All settings. Missing ones get their defaults."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=False)


@router.get("/disclaimer", **route_options("preview", Unavailable))
async def get_disclaimer(caller: FromCaller, resources: FromResources) -> DisclaimerSettings:
    """Return the audible labels of the owner's speech."""
    return await disclaimers.read(resources, caller.owner)


@router.put("/disclaimer", **route_options("voices:write", InvalidInput, Unavailable))
async def put_disclaimer(
    settings: DisclaimerRequest, caller: FromCaller, resources: FromResources
) -> DisclaimerSettings:
    """Set the audible labels of the owner's speech. New jobs have them within a minute."""
    await disclaimers.write(resources, caller.owner, settings)
    return settings
