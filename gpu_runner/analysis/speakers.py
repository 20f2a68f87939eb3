"""Detection of several speakers in a recording."""

import numpy as np

from gpu_runner.analysis.speaker import embed_parts, mean_embedding, similarity, without_silence
from pipeline.audio.reference_audio import Samples

GROUP_MIN = 2  # parts, as the embedding of a single one varies
_ROUNDS = 5


def similarity_of_halves(samples: Samples) -> float | None:
    """Return the similarity of the two most different groups of parts of samples at `MODEL_RATE`.

    The parts are divided by the 2-means method. None: the recording is too short, or has no second group.

    Raises
    ------
    PackageMissing
        Resemblyzer is not installed.
    """
    parts = embed_parts(without_silence(samples))
    all_pairs = parts @ parts.T
    first, second = np.unravel_index(np.argmin(all_pairs), all_pairs.shape)
    in_first = all_pairs[first] >= all_pairs[second]
    for _ in range(_ROUNDS):
        if min(np.count_nonzero(in_first), np.count_nonzero(~in_first)) < GROUP_MIN:
            return None
        means = mean_embedding(parts[in_first]), mean_embedding(parts[~in_first])
        in_first = parts @ means[0] >= parts @ means[1]
    return similarity(*means)
