"""The route class of requests for a preview: a repeated one with an idempotency key joins the job of the first."""

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from functions.http.previews.response import FromAnswering
from functions.http.routing.dependencies import FromCaller
from functions.http.routing.idempotent_route import IdempotentRoute


class PreviewRoute(IdempotentRoute):
    """A route that creates the job of a preview."""

    @staticmethod
    async def join(request: Request, job_id: str) -> Response:
        """Return the response from the job that an earlier request has made."""
        request.state.joined_job_id = job_id
        return await _serve_joined(request)


async def _joined(request: Request, caller: FromCaller, answering: FromAnswering) -> Response:
    return await answering.join(caller.owner, request.state.joined_job_id)


# Only solves the dependencies from the query and the headers; the body is not read.
_serve_joined = APIRoute("/", _joined, methods=["POST"], response_class=Response).get_route_handler()
