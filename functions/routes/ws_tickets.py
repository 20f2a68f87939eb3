"""`/ws-tickets`: how a browser, that can set no header on a WebSocket, shows who it is."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions import problems
from functions.guarded import GuardedRoute, only
from functions.neighbours import FromCaller, FromResources
from pipeline import tickets
from pipeline.errors import Unavailable
from pipeline.records import UtcSeconds

router = APIRouter(tags=["WebSocket"], route_class=GuardedRoute)


class TicketView(BaseModel):
    """A ticket for one WebSocket connection."""

    ticket: str = Field(description="Open `/ws?ticket=…` with it, once")
    expires_at: UtcSeconds


@router.post(
    "/ws-tickets", status_code=201, responses=problems.answers(Unavailable.code), openapi_extra=only("preview")
)
async def issue_ticket(caller: FromCaller, resources: FromResources) -> TicketView:
    """Give a ticket by which `/ws` can be opened once, within a minute, as whoever asks for it."""
    ticket, expires_at = await tickets.issue(resources, caller)
    return TicketView(ticket=ticket, expires_at=expires_at)
