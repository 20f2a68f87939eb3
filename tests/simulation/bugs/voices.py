"""Bugs of saves and deletions."""

from tests.simulation.bugs import Bug

CHANGES = "pipeline/domain/voice_changes.py"
CLAIMS = "pipeline/domain/voice_claims.py"

BUGS = (
    Bug(
        "claim has no condition",
        CLAIMS,
        "            etag = await resources.voices.put_once(key, body, JSON)\n",
        "            await resources.voices.put(key, body, JSON)\n"
        "            head = await resources.voices.head(key)\n            etag = head.etag if head else None\n",
    ),
    Bug(
        "voice is ready before its files",
        CHANGES,
        "        await _write_files(resources, owner, ready, files, given)\n"
        "        stored = await resources.voices.replace(key, ready.to_json(), JSON, etag=claim.etag)\n",
        "        stored = await resources.voices.replace(key, ready.to_json(), JSON, etag=claim.etag)\n"
        "        await _write_files(resources, owner, ready, files, given)\n",
    ),
    Bug(
        "save is acknowledged before its last write",
        CHANGES,
        "        stored = await resources.voices.replace(key, ready.to_json(), JSON, etag=claim.etag)\n",
        "        asyncio.ensure_future(resources.voices.replace(key, ready.to_json(), JSON, etag=claim.etag))\n"
        '        stored: str | None = "pending"\n',
    ),
    Bug(
        "last write has no condition",
        CHANGES,
        "        stored = await resources.voices.replace(key, ready.to_json(), JSON, etag=claim.etag)\n",
        "        await resources.voices.put(key, ready.to_json(), JSON)\n        stored: str | None = claim.etag\n",
    ),
    Bug(
        "metadata is deleted before the files",
        "pipeline/domain/revocation/derived_objects.py",
        "        await resources.voices.delete_versions(self.versions)\n        await resources.voices.delete_versions(self.metadata)\n",
        "        await resources.voices.delete_versions(self.metadata)\n        await resources.voices.delete_versions(self.versions)\n",
    ),
    Bug(
        "recording of a deleted voice is left",
        "pipeline/domain/revocation/derived_objects.py",
        "        await resources.voices.delete_versions(self.versions)\n",
        "        await resources.voices.delete_versions([one for one in self.versions if not one.key.endswith('source.wav')])\n",
    ),
    Bug(
        "upload of a deleted voice is left",
        "pipeline/domain/revocation/derived_objects.py",
        "    for session_id in (revoked.reference_id, *revoked.consent_ids):\n",
        "    for session_id in revoked.consent_ids:\n",
    ),
    Bug(
        "previews of a deleted voice are left",
        "pipeline/domain/revocation/derived_objects.py",
        "    if await bucket.head(layout.preview(job_id)):\n",
        "    if False:\n",
    ),
    Bug(
        "revocation is complete after its first pass",
        "pipeline/domain/revocation/revoke.py",
        "    is_last = certificate.requested_at + SETTLE_TIME <= resources.clock()\n",
        "    is_last = True\n",
    ),
    Bug(
        "claim is announced after it is written",
        CLAIMS,
        "        change_key = await announce_change(resources, change)\n",
        "        change_key = layout.change(resources.new_id())\n",
    ),
    Bug(
        "sweep does not finish changes",
        CHANGES,
        "        if await _settle_record(resources, item.key):\n",
        "        if False:\n",
    ),
    Bug(
        "sweep finishes changes too early",
        CHANGES,
        "CHANGE_TIMEOUT = timedelta(minutes=10)",
        "CHANGE_TIMEOUT = timedelta(seconds=0)",
    ),
    Bug("save is recorded for each attempt", CHANGES, " or voice.change_id != change_id:", ":"),
    Bug(
        "change is forgotten before it is complete",
        CHANGES,
        "    try:\n        await _write_files(resources, owner, ready, files, given)\n",
        "    try:\n        await resources.bucket.delete([claim.change_key])\n"
        "        await _write_files(resources, owner, ready, files, given)\n",
    ),
    Bug(
        "prompt of a new voice is not requested",
        CHANGES,
        "        if files.embedding is None:\n            await _request_embedding(resources, owner, ready)\n",
        "",
    ),
)
