"""Revocation of a voice with a worker, and a bucket with versions: what the storage contains afterwards."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from functions.background import sweep
from pipeline.clients.resources import Resources
from pipeline.clients.s3_bucket import S3Bucket
from pipeline.contract import layout
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance, jobs, voice_changes, voice_renaming, voices
from pipeline.domain.revocation import revoke
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.ids import utc_now
from tests.support.engines import ScriptedEngine
from tests.support.job_requests import failure_of, make_request, submit_upload_job
from tests.support.waiting import eventually, until
from tests.support.workers import real_time_worker


async def all_versions(bucket: S3Bucket) -> AsyncIterator[tuple[str, bytes]]:
    """Yield the key and the body of every version in a bucket."""
    client: Any = bucket._client
    async for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket.name):
        for marker in page.get("DeleteMarkers", []):
            yield marker["Key"], b""
        for version in page.get("Versions", []):
            found = await client.get_object(Bucket=bucket.name, Key=version["Key"], VersionId=version["VersionId"])
            yield version["Key"], await found["Body"].read()


async def keys_that_name(resources: Resources, *ids: str) -> set[str]:
    """Return the keys of all versions that contain one of the ids, other than certificates and audit entries."""
    found = set[str]()
    for bucket in (resources.bucket, resources.voices):
        assert isinstance(bucket, S3Bucket)
        async for key, body in all_versions(bucket):
            if any(id_.encode() in key.encode() + body for id_ in ids):
                found.add(key)
    return {key for key in found if not key.startswith((layout.REVOCATIONS, layout.AUDIT, layout.AUDIT_PENDING))}


async def preview_of(resources: Resources, voice_id: str) -> Request:
    voice = await voices.get(resources, None, voice_id)
    request = make_request(resources, Source(voice_id=voice_id), voice.reference_id)
    request = request.model_copy(update={"reference_folder": layout.voice_files(voice).folder})
    await acceptance.accept(resources, request)
    return request


async def outcome(resources: Resources, request: Request) -> Any:
    return await eventually(partial(jobs.read_outcome, resources, request.job_id), seconds=20)


async def test_no_version_of_voice_remains(resources: Resources) -> None:
    assert isinstance(resources.voices, S3Bucket)
    await resources.voices._client.put_bucket_versioning(
        Bucket=resources.voices.name, VersioningConfiguration={"Status": "Enabled"}
    )
    engine = ScriptedEngine()
    async with real_time_worker(resources, engine):
        first = await submit_upload_job(resources)
        await outcome(resources, first)
        await voice_changes.save(resources, None, first.reference_id, "Nova", consent="I agree.")
        await voice_renaming.rename(resources, None, "nova", description="calm")
        second = await preview_of(resources, "nova")
        await outcome(resources, second)
        engine.paused = True
        running = await preview_of(resources, "nova")
        await until(lambda: engine.active, seconds=20)
        certificate = await revoke_voice(resources, None, "nova", "deleted")
        await until(lambda: not engine.active, seconds=20)
        engine.paused = False
    assert (await failure_of(resources, running)).code == "voice_deleted"
    a_minute_later = replace(resources, clock=lambda: utc_now() + timedelta(minutes=1))
    await sweep.handle(a_minute_later, {})
    certificate = await revoke.get(resources, None, certificate.revocation_id)
    assert certificate.completed_at
    named = await keys_that_name(resources, first.reference_id, first.job_id, second.job_id, running.job_id, "nova")
    assert named == {layout.outcome(running.job_id)}
    assert named == {one.key for one in certificate.remaining if one.key}
