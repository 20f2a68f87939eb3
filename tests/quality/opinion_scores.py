"""The DNSMOS of files: `python -m tests.quality.opinion_scores RESULT WAV...`, in the environment `quality`."""

import json
import sys
from pathlib import Path

import librosa
from speechmos import dnsmos

RATE = 16_000


def main(result: str, *wavs: str) -> None:
    """Write the overall score of each file as JSON."""
    scores = {}
    for wav in wavs:
        samples, _ = librosa.load(wav, sr=RATE)
        scores[wav] = float(dnsmos.run(samples.clip(-1, 1), sr=RATE)["ovrl_mos"])
    Path(result).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
