"""Classification of failed AWS calls."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from structlog.testing import capture_logs

from pipeline.clients.failures import unavailable
from pipeline.errors import Misconfigured, Unavailable


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Call")


@pytest.mark.parametrize(
    "error",
    [
        refusal("AccessDenied"),
        refusal("com.amazonaws.sqs#QueueDoesNotExist"),
        refusal("AWS.SimpleQueueService.NonExistentQueue"),
        refusal("NoSuchBucket"),
        refusal("403"),
        NoCredentialsError(),
    ],
)
def test_misconfiguration_names_setting(error: Exception) -> None:
    made = unavailable(error, "storage", "bucket b: read k", "BUCKET")
    assert isinstance(made, Misconfigured)
    assert "bucket b: read k" in made.message


@pytest.mark.parametrize(
    "error",
    [
        refusal("SlowDown"),
        refusal("InternalError"),
        refusal("503"),
        EndpointConnectionError(endpoint_url="x"),
        OSError(),
    ],
)
def test_other_errors_are_outages(error: Exception) -> None:
    assert type(unavailable(error, "storage", "bucket b: read k", "BUCKET")) is Unavailable


def test_misconfiguration_is_logged_once() -> None:
    with capture_logs() as logs:
        for _ in range(3):
            unavailable(refusal("AccessDenied"), "storage", "bucket b: read k", "A_BUCKET_OF_THIS_TEST")
    assert [(line["log_level"], line["check"]) for line in logs] == [
        ("critical", "A_BUCKET_OF_THIS_TEST, and the permissions")
    ]
