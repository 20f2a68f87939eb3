"""Bugs of notifications, webhooks and the functions of queues."""

from tests.simulation.bugs import Bug

NOTIFY = "functions/background/notify.py"
WEBHOOKS = "functions/background/webhooks.py"
ATTEMPTS = "pipeline/domain/webhook_attempts.py"

BUGS = (
    Bug(
        "later subscribers are not notified",
        NOTIFY,
        "    return [maker, *(other for other in others if other.reply_to != maker.reply_to)]",
        "    return [maker]",
    ),
    Bug(
        "unreachable client counts as notified",
        NOTIFY,
        '        return "unreachable"\n',
        '        return "delivered"\n',
    ),
    Bug(
        "outage drops the event",
        NOTIFY,
        '        log.warning("could not notify of outcome", job_id=job_id, reason=error.message)\n        return False',
        '        log.warning("could not notify of outcome", job_id=job_id, reason=error.message)\n        return True',
    ),
    Bug(
        "event is dropped if nobody is reachable",
        NOTIFY,
        "        return not unreachable\n",
        "        return True\n",
    ),
    Bug(
        "some subscribers are not retried",
        NOTIFY,
        "    for subscriber in unreachable:\n",
        "    for subscriber in unreachable[1:]:\n",
    ),
    Bug(
        "retried notification is repeated forever",
        NOTIFY,
        "            return not await _retry(resources, lookups.keys, retried)\n",
        "            return await _retry(resources, lookups.keys, retried)\n",
    ),
    Bug(
        "lost webhook message is not sent again",
        ATTEMPTS,
        "        elif attempt.next_at and (",
        "        elif False and (",
    ),
    Bug(
        "webhook is forgotten before it is sent",
        WEBHOOKS,
        "    try:\n        await _send(resources, client, delivery)\n",
        "    try:\n        await webhook_attempts.finish(resources, delivery.job_id)\n"
        "        await _send(resources, client, delivery)\n",
    ),
    Bug(
        "due webhook counts as a duplicate",
        WEBHOOKS,
        "not latest.is_due(resources.clock())",
        "latest.is_due(resources.clock())",
    ),
    Bug(
        "webhook is not queued",
        NOTIFY,
        "            await _send_webhook(resources, lookups.receivers, outcome)\n",
        "",
    ),
    Bug(
        "message of a webhook is sent before its record",
        ATTEMPTS,
        "    if await begin(resources, delivery, 0):\n        await _send(resources, delivery)\n",
        "    await _send(resources, delivery)\n    await begin(resources, delivery, 0)\n",
    ),
    Bug(
        "dead letter does not end its job",
        "functions/background/dead_letters.py",
        "        await give_up(resources, message.job_id)\n",
        "        pass\n",
    ),
    Bug(
        "failed messages are deleted",
        "localstack/pump.py",
        "if message.id not in failed]",
        "]",
    ),
)
