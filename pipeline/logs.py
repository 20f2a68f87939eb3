"""Logging."""

import logging
import sys

import structlog

from pipeline.settings import Settings


def configure_logging(settings: Settings, service: str) -> None:
    """Set up structured logs."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(service=service)
