"""Bugs of jobs: requests, messages, outcomes."""

from tests.simulation.bugs import Bug

ACCEPTANCE = "pipeline/domain/acceptance.py"
JOBS = "pipeline/domain/jobs.py"
DISPATCH = "functions/websocket/dispatch.py"
CONSUMER = "gpu_runner/queue/consumer.py"
DELIVERIES = "gpu_runner/queue/deliveries.py"
PUBLISHING = "gpu_runner/synthesis/publishing.py"

BUGS = (
    Bug(
        "outcome is overwritten",
        JOBS,
        "written = await resources.bucket.put_once(key, outcome.to_json(), JSON) is not None",
        "await resources.bucket.put(key, outcome.to_json(), JSON)\n    written = True",
    ),
    Bug(
        "message is never sent",
        ACCEPTANCE,
        "        await _send(resources, request)\n",
        "",
    ),
    Bug(
        "client is notified before the message is sent",
        DISPATCH,
        "        async with self._turns.turn(caller.owner):\n",
        "        await self._send_queued(send, data, request.job_id)\n        async with self._turns.turn(caller.owner):\n",
    ),
    Bug(
        "cancellation has no outcome",
        JOBS,
        '    await write_outcome(resources, failure(request, Cancelled("The job was cancelled."), resources.clock()))\n',
        "",
    ),
    Bug(
        "job is counted after it is stored",
        ACCEPTANCE,
        "    if owner := preview_owner(request):\n        await concurrent_previews.reserve(",
        "    await _put_all(resources, [NewObject(layout.request(request.job_id), request.to_json(), JSON)])\n"
        "    if owner := preview_owner(request):\n        await concurrent_previews.reserve(",
    ),
    Bug(
        "repeatable request is withdrawn",
        ACCEPTANCE,
        "if not is_repeatable or await read_envelope(resources, request.job_id) is None:",
        "if True:",
    ),
    Bug(
        "message is deleted before the outcome",
        CONSUMER,
        "        try:\n            await self._process(delivery, document)\n        except Stopping:",
        "        self._deliveries.complete(delivery)\n        try:\n            await self._process(delivery, document)\n"
        "        except Stopping:",
    ),
    Bug(
        "failed job is not returned to the queue",
        CONSUMER,
        "            self._deliveries.return_to_queue(delivery, after_seconds=seconds)\n",
        "            self._deliveries.complete(delivery)\n",
    ),
    Bug(
        "capacity is not freed",
        CONSUMER,
        "            self._synthesizing.discard(delivery.job_id)\n",
        "",
    ),
    Bug("messages are not deleted", DELIVERIES, "failed = await self._queue.delete(receipts)", "failed = receipts"),
    Bug(
        "audio is not stored",
        PUBLISHING,
        "    if await context.resources.bucket.put_once(key, body, WAV, metadata=_to_metadata(report)) is None:\n",
        "    if False:\n",
    ),
    Bug(
        "outcome does not wait for the audio",
        PUBLISHING,
        "    if await context.resources.bucket.put_once(key, body, WAV, metadata=_to_metadata(report)) is None:\n",
        "    asyncio.ensure_future(context.resources.bucket.put_once(key, body, WAV))\n    if False:\n",
    ),
    Bug(
        "audio is overwritten",
        PUBLISHING,
        "    if await context.resources.bucket.put_once(key, body, WAV, metadata=_to_metadata(report)) is None:\n",
        "    await context.resources.bucket.put(key, body, WAV)\n    if False:\n",
    ),
    Bug(
        "deadline is checked with the wrong sign",
        PUBLISHING,
        "retention.job_deadline(request.job_id, resources.settings) <= resources.clock()",
        "retention.job_deadline(request.job_id, resources.settings) >= resources.clock()",
    ),
    Bug(
        "subscription has no second look-up",
        DISPATCH,
        "            outcome = await jobs.read_outcome(self._resources, job.job_id)\n        return",
        "        return",
    ),
    Bug(
        "turn of an owner is not given back",
        "functions/previews/fair_turns.py",
        "        finally:\n            self._pass_on()\n",
        "        finally:\n            pass\n",
    ),
)
