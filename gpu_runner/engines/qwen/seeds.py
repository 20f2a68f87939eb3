"""Seeds of the sampling: derived from the request's seed or the job's id, and so deterministic.

A job that is delivered twice gives the same audio, and a long text does not depend on the rest of its batch.
"""

from hashlib import blake2b


def seed_of(job_id: str, requested: int | None) -> int:
    """Return the seed of a job: the requested one, or 56 bits of the BLAKE2b hash of its id."""
    return _hashed(f"job:{job_id}") if requested is None else requested


def seed_of_part(seed: int, part: int) -> int:
    """Return the seed of a part of a text: 56 bits of the BLAKE2b hash of the job's seed and the part's number."""
    return _hashed(f"{seed}:{part}")


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())
