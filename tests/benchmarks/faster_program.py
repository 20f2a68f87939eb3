"""Measures faster-qwen3-tts in a separate environment, because it needs another version of transformers.

Reads a request from stdin.  Writes `{"ms": …}`, the time of the fastest round, or `{"failed": …}` as the last line
of stdout.  `tests.benchmarks.qwen_faster` starts it.  It imports nothing of this project.
"""

import json
import sys
import time
from typing import Any


def main() -> None:
    """Read the request and print the result."""
    try:
        answer: dict[str, Any] = {"ms": measure(json.load(sys.stdin))}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(answer), flush=True)


def measure(request: dict[str, Any]) -> float:
    """Return the minimum time to synthesize a text of `frames` frames, in milliseconds."""
    import torch
    from faster_qwen3_tts import FasterQwen3TTS
    from qwen_tts import VoiceClonePromptItem

    device, dtype = request["device"], getattr(torch, request["dtype"])
    model = FasterQwen3TTS.from_pretrained(request["checkpoint"], device=device, dtype=dtype)
    codes = torch.tensor(request["codes"], device=device)
    speaker = torch.tensor(request["speaker"], device=device, dtype=dtype)
    item = VoiceClonePromptItem(codes, speaker, False, True, request["transcript"])
    frames = request["frames"]

    def synthesize() -> float:
        began = time.perf_counter()
        waves, _ = model.generate_voice_clone(
            text=request["text"],
            language="Auto",
            voice_clone_prompt=[item],
            ref_text=request["transcript"],
            max_new_tokens=frames,
            min_new_tokens=frames,
        )
        took = time.perf_counter() - began
        if abs(len(waves[0]) - frames * request["frame_samples"]) > request["frame_samples"]:
            raise ValueError(f"{len(waves[0])} samples are not {frames} frames")
        return took * 1000

    synthesize()  # warm up, which includes the capture of graphs
    return min(synthesize() for _ in range(request["rounds"]))


if __name__ == "__main__":
    main()
