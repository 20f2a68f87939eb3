"""`/audit`: the audit log."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromResources
from pipeline.access.audit import chain
from pipeline.contract import layout
from pipeline.errors import Forbidden, InvalidInput, Unavailable

router = APIRouter(tags=["operations"], route_class=AuthorizedRoute)

LIMIT_MAX = 1000
ALL = "*"


@router.get(
    "/audit",
    response_class=Response,
    responses={
        200: {
            "description": "One entry per line",
            "content": {chain.JSON_LINES: {"schema": {"type": "string"}}},
            "headers": {
                "Link": {"description": 'The next page, with `rel="next"`', "schema": {"type": "string"}},
            },
        },
        **problems.answers(InvalidInput.code, Unavailable.code),
    },
    openapi_extra=requires("preview"),
)
async def get_audit(
    caller: FromCaller,
    resources: FromResources,
    owner: Annotated[
        str | None,
        Query(pattern=r"^(\*|_|[a-z0-9-]{1,40})$", description="Another owner, or `*` for all. Needs `admin`"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Maximum number of entries")] = LIMIT_MAX,
    after: Annotated[
        str,
        Query(pattern=r"^([a-z0-9_-]{1,40}/[0-9]{1,12})?$", description="Continue after this `owner/sequence`"),
    ] = "",
) -> Response:
    """Return the entries of the audit log as lines of JSON, oldest first.

    Each line has the SHA-256 of the line before it, without its line feed, in `previous`.
    """
    if owner not in {None, caller.owner} and not caller.may("admin"):
        raise Forbidden("The entries of other owners need a key with the scope `admin`.")
    if owner == ALL:
        await chain.append_all_pending(resources)
        names = await chain.chains(resources)
    else:
        names = [layout.audit_chain(owner or caller.owner)]
        await chain.append_pending(resources, names[0])
    page = await chain.page(resources, names, limit=limit, after=after)
    response = Response(page.body, media_type=chain.JSON_LINES, headers={"Cache-Control": "private"})
    if page.next_after:
        query = {"after": page.next_after, "limit": limit} | ({"owner": owner} if owner else {})
        response.headers["Link"] = f'</audit?{urlencode(query)}>; rel="next"'
    return response
