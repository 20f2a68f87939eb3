"""Bugs of idempotency keys and streams."""

from tests.simulation.bugs import Bug

KEYS = "pipeline/access/idempotency.py"
ROUTE = "functions/http/routing/idempotent_route.py"
RESPONSE = "functions/http/previews/response.py"
ACCEPT = """            async with self.services.turns.turn(request.source.owner):
                await acceptance.accept(
                    resources,
                    request,
                    objects,
                    reference_seconds=reference_seconds,
                    responses=responses,
                    is_repeatable=claim is not None,
                )
"""
STREAMING = "functions/http/previews/streaming.py"

BUGS = (
    Bug(
        "claim of a key has no condition",
        KEYS,
        "    etag = await resources.bucket.put_once(key, record.to_json(), JSON)\n",
        "    await resources.bucket.put(key, record.to_json(), JSON)\n"
        "    head = await resources.bucket.head(key)\n    etag = head.etag if head else None\n",
    ),
    Bug(
        "claim of a request in progress is taken over",
        KEYS,
        "    if found.record.held_until > resources.clock():\n        raise _in_progress()\n    taken",
        "    taken",
    ),
    Bug(
        "claim that is taken over forgets its job",
        KEYS,
        'update={"job_id": found.record.job_id, "created_at": found.record.created_at}',
        'update={"created_at": found.record.created_at}',
    ),
    Bug(
        "lost response to a claim counts as refusal",
        KEYS,
        "    return etag if etag is not None else await _etag_if_stored(resources, key, record)\n",
        "    return etag\n",
    ),
    Bug(
        "job of a key is named after it is accepted",
        RESPONSE,
        f"                await claim.name_job(request.job_id)\n{ACCEPT}",
        f"                pass\n{ACCEPT}            if claim:\n                await claim.name_job(request.job_id)\n",
    ),
    Bug(
        "named job counts as accepted",
        ROUTE,
        "is_accepted = job_id is not None and await acceptance.send_again(claim.resources, job_id)",
        "is_accepted = job_id is not None",
    ),
    Bug(
        "job whose message may have been sent releases its key",
        ROUTE,
        "        await (claim.end_lease() if is_stored or is_unknown else claim.release())\n",
        "        await claim.release()\n",
    ),
    Bug(
        "saved voice is not found when its request is repeated",
        "functions/http/routes/voices.py",
        "    if claim is not None and claim.is_taken_over:\n",
        "    if claim is not None and False:\n",
    ),
    Bug(
        "response to a key is not stored",
        ROUTE,
        "            await claim.finish(_stored(response))\n",
        "            await claim.release()\n",
    ),
    Bug(
        "incomplete stream counts as complete",
        STREAMING,
        "    if audio.is_all_of(outcome.take, outcome.preview.duration_seconds):\n",
        "    if audio.returned_bytes:\n",
    ),
    Bug(
        "stream of a failed job ends normally",
        STREAMING,
        '        raise StreamAborted("the job failed")\n',
        '        return b""\n',
    ),
    Bug(
        "rest of a stream is not compared",
        STREAMING,
        " or not audio.is_beginning_of(samples)",
        "",
    ),
    Bug(
        "abandoned stream is cancelled although a client is subscribed",
        STREAMING,
        "            async for _ in resources.bucket.list(layout.subscribers(job_id)):\n                return\n",
        "",
    ),
)
