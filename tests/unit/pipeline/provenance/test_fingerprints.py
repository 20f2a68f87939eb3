"""The index of fingerprints: who finds what, for how long."""

from datetime import timedelta

import numpy as np
import pytest

from functions.background import sweep
from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import Recording
from pipeline.contract import layout
from pipeline.ids import Owner
from pipeline.marking.fingerprint import excerpts
from pipeline.provenance import fingerprints
from tests.support.fakes.resources import Fakes
from tests.unit.pipeline.marking.test_fingerprint import RATE, SPEECH, speech

CUT = excerpts(SPEECH[RATE : 4 * RATE], RATE)


async def stored(fakes: Fakes, owner: Owner, seed: int = 0, seconds: float = 8.0) -> str:
    """Store the fingerprint of a new job."""
    job_id = new_id(fakes.resources.new_id, owner)
    await fingerprints.store(fakes.resources, owner, job_id, Recording(speech(seed, seconds), RATE))
    return job_id


async def test_job_is_found_among_others(fakes: Fakes) -> None:
    await stored(fakes, "alice", 1)
    job_id = await stored(fakes, "alice")
    await stored(fakes, "alice", 2)
    assert await fingerprints.find_job(fakes.resources, "alice", CUT) == job_id


@pytest.mark.parametrize("owner", ["bob", None])
async def test_job_of_other_owner_is_not_found(fakes: Fakes, owner: Owner) -> None:
    await stored(fakes, "alice")
    assert await fingerprints.find_job(fakes.resources, owner, CUT) is None


async def test_job_without_authentication_is_found(fakes: Fakes) -> None:
    job_id = await stored(fakes, None)
    assert await fingerprints.find_job(fakes.resources, None, CUT) == job_id


async def test_job_of_day_before_is_found(fakes: Fakes) -> None:
    job_id = await stored(fakes, "alice")
    fakes.time.now += timedelta(hours=23)
    await stored(fakes, "alice", 1)
    assert await fingerprints.find_job(fakes.resources, "alice", CUT) == job_id


async def test_long_preview_has_several_names(fakes: Fakes) -> None:
    job_id = await stored(fakes, "alice", seconds=30)
    names = [key.rpartition("/")[2] for key in fakes.bucket.objects]
    assert len(names) == 3
    assert max(map(len, names)) <= 255
    later = excerpts(speech(0, 30)[22 * RATE : 28 * RATE], RATE)
    assert await fingerprints.find_job(fakes.resources, "alice", later) == job_id


async def test_slower_copy_is_not_of_job_before(fakes: Fakes) -> None:
    await stored(fakes, "alice", 1)
    fakes.time.now += timedelta(seconds=1)  # ids of one millisecond have no order
    job_id = await stored(fakes, "alice", seconds=4)
    whole = speech(0, 4)
    padded = np.concatenate([np.zeros(RATE // 2, np.float32), whole])
    assert await fingerprints.find_job(fakes.resources, "alice", excerpts(padded, RATE)) == job_id


async def test_no_excerpts_no_requests(fakes: Fakes) -> None:
    assert await fingerprints.find_job(fakes.resources, "alice", []) is None
    assert fakes.bucket.switch.count("list") == 0


async def test_sweep_deletes_expired_fingerprints(fakes: Fakes) -> None:
    await stored(fakes, "alice")
    await stored(fakes, None)
    fakes.time.now += timedelta(hours=30)
    late = await stored(fakes, "alice")
    fakes.time.now += timedelta(hours=30)
    swept = await sweep.handle(fakes.resources, {})
    assert swept["fingerprints"] == 2
    kept = [key for key in fakes.bucket.objects if key.startswith(layout.FINGERPRINTS)]
    assert all(key.startswith(layout.fingerprint("alice", late)) for key in kept)
    assert kept
