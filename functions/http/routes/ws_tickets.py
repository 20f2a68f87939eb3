"""`/ws-tickets`: authentication of WebSockets in browsers, which can't set headers."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromResources
from pipeline.access import ws_tickets
from pipeline.contract.records import UtcSeconds
from pipeline.errors import Unavailable

router = APIRouter(tags=["WebSocket"], route_class=AuthorizedRoute)


class TicketView(BaseModel):
    """A ticket for one WebSocket connection."""

    ticket: str = Field(description="Open `/ws?ticket=…` with it. It is valid once")
    expires_at: UtcSeconds


@router.post(
    "/ws-tickets", status_code=201, responses=problems.answers(Unavailable.code), openapi_extra=requires("preview")
)
async def create_ws_ticket(caller: FromCaller, resources: FromResources) -> TicketView:
    """Issue a ticket that authenticates one connection to `/ws` within a minute."""
    ticket, expires_at = await ws_tickets.issue(resources, caller)
    return TicketView(ticket=ticket, expires_at=expires_at)
