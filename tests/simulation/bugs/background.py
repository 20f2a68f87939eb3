"""Bugs of retention and the audit log."""

from tests.simulation.bugs import Bug

SWEEP = "functions/background/sweep.py"
AUDIT = "pipeline/access/audit/chain.py"

BUGS = (
    Bug(
        "previews expire by the wrong time",
        SWEEP,
        "        if retention.preview_expires_at(item.last_modified, resources.settings) <= now:\n",
        "        if item.last_modified <= now:\n",
    ),
    Bug(
        "previews are never deleted",
        SWEEP,
        "        if retention.preview_expires_at(item.last_modified, resources.settings) <= now:\n",
        "        if False:\n",
    ),
    Bug(
        "unfinished jobs count as overdue",
        SWEEP,
        "    latest, ended = resources.clock() - deadline, 0\n",
        "    latest, ended = resources.clock(), 0\n",
    ),
    Bug(
        "audit entry is deleted before it is appended",
        AUDIT,
        "            key, body = _object(resources, chain, latest, new)\n",
        "            key, body = _object(resources, chain, latest, new)\n            await resources.bucket.delete(entries)\n",
    ),
    Bug(
        "audit chain is overwritten",
        AUDIT,
        "            if await resources.audit.put_once(key, body, JSON_LINES) is None:\n",
        "            await resources.audit.put(key, body, JSON_LINES)\n            if False:\n",
    ),
    Bug(
        "audit entry is appended again after a crash",
        AUDIT,
        "        new = [entry for entry in entries.values() if entry.entry_id not in known]\n",
        "        new = list(entries.values())\n",
    ),
)
