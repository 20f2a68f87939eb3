"""The HTTP status of each error code. A separate module, because functions without HTTP import it."""

from http import HTTPStatus

from pipeline.errors import (
    Cancelled,
    ConnectionGone,
    DeadlineExceeded,
    Expired,
    Forbidden,
    IdempotencyKeyReused,
    InvalidAudio,
    InvalidInput,
    Misconfigured,
    NameTaken,
    NotFound,
    NotReady,
    RequestInProgress,
    StorageFull,
    SynthesisFailed,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
)

STATUS: dict[str, HTTPStatus] = {
    InvalidInput.code: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidAudio.code: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyKeyReused.code: HTTPStatus.UNPROCESSABLE_ENTITY,
    RequestInProgress.code: HTTPStatus.CONFLICT,
    TooLarge.code: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Unauthorized.code: HTTPStatus.UNAUTHORIZED,
    Forbidden.code: HTTPStatus.FORBIDDEN,
    TooMany.code: HTTPStatus.TOO_MANY_REQUESTS,
    NotFound.code: HTTPStatus.NOT_FOUND,
    NotReady.code: HTTPStatus.NOT_FOUND,
    Expired.code: HTTPStatus.GONE,
    NameTaken.code: HTTPStatus.CONFLICT,
    DeadlineExceeded.code: HTTPStatus.GATEWAY_TIMEOUT,
    SynthesisFailed.code: HTTPStatus.BAD_GATEWAY,
    Unavailable.code: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageFull.code: HTTPStatus.INSUFFICIENT_STORAGE,
    Misconfigured.code: HTTPStatus.INTERNAL_SERVER_ERROR,
    Cancelled.code: HTTPStatus.CONFLICT,
    ConnectionGone.code: HTTPStatus.GONE,
}
