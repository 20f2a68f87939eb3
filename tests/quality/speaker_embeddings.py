"""Print the embeddings of Resemblyzer for WAV files as JSON, in the environment `quality`.

`python -m tests.quality.speaker_embeddings FILE.wav…`. Each file has the embedding of the whole recording at 16 kHz
without further processing, and that of the recording without pauses.
"""

import json
import sys

import numpy as np
import soundfile as sf
from resemblyzer import VoiceEncoder, normalize_volume, preprocess_wav


def main() -> None:
    """Run the command."""
    encoder = VoiceEncoder("cpu", verbose=False)
    embeddings = []
    for path in sys.argv[1:]:
        samples, rate = sf.read(path, dtype="float32")
        amplified = normalize_volume(samples, -30, increase_only=True).astype(np.float32)
        whole, parts, _ = encoder.embed_utterance(amplified, return_partials=True)
        usual = encoder.embed_utterance(preprocess_wav(samples, rate))
        embeddings.append({"parts": parts.tolist(), "whole": whole.tolist(), "usual": usual.tolist()})
    print(json.dumps(embeddings))


if __name__ == "__main__":
    main()
