"""The integration tests' S3 and SQS, for attacks on the API that uses them."""

from tests.integration.conftest import aws, resources, settings

__all__ = ["aws", "resources", "settings"]
