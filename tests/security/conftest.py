"""The S3 and SQS fixtures of the integration tests."""

from tests.integration.conftest import aws, resources, settings

__all__ = ["aws", "resources", "settings"]
