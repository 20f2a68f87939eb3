"""Expiry times."""

from datetime import timedelta

import pytest

from pipeline.contract import retention
from pipeline.ids import id_maker
from pipeline.settings import Settings
from tests.support.fakes.clock import EPOCH

SETTINGS = Settings()
ID = id_maker(lambda: EPOCH)()


def test_default_retention() -> None:
    assert retention.upload_expires_at(ID, SETTINGS) == EPOCH + timedelta(hours=12)
    assert retention.preview_expires_at(EPOCH, SETTINGS) == EPOCH + timedelta(minutes=20)
    assert retention.job_expires_at(ID, SETTINGS) == EPOCH + timedelta(hours=24)
    assert retention.job_deadline(ID, SETTINGS) == EPOCH + timedelta(hours=1)
    assert retention.connection_expires_at(EPOCH, SETTINGS) == EPOCH + timedelta(hours=2)
    assert retention.preview_earliest_expiry(ID, SETTINGS) == EPOCH + timedelta(minutes=20)
    assert retention.ticket_expires_at(ID) == EPOCH + timedelta(seconds=60)


def test_retention_settings() -> None:
    settings = Settings(
        upload_retention_hours=1.5,
        preview_retention_minutes=0.5,
        job_retention_hours=48,
        job_deadline_minutes=2,
        connection_retention_hours=0.25,
    )
    assert retention.upload_expires_at(ID, settings) == EPOCH + timedelta(minutes=90)
    assert retention.preview_expires_at(EPOCH, settings) == EPOCH + timedelta(seconds=30)
    assert retention.job_expires_at(ID, settings) == EPOCH + timedelta(hours=48)
    assert retention.job_deadline(ID, settings) == EPOCH + timedelta(minutes=2)
    assert retention.connection_expires_at(EPOCH, settings) == EPOCH + timedelta(minutes=15)


@pytest.mark.parametrize(("hours", "minutes", "lifetime"), [(12, 60, 60), (0.5, 60, 30), (12, 5, 5)])
def test_upload_form_expiry(hours: float, minutes: float, lifetime: float) -> None:
    settings = Settings(upload_retention_hours=hours, upload_form_minutes=minutes)
    assert settings.upload_form_lifetime == timedelta(minutes=lifetime)


def test_job_outlives_preview() -> None:
    settings = Settings(job_retention_hours=1.5, job_deadline_minutes=60, preview_retention_minutes=30)
    last_end = retention.job_deadline(ID, settings)
    assert retention.preview_expires_at(last_end, settings) <= retention.job_expires_at(ID, settings)
