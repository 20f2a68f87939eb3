"""Times faster-qwen3-tts, in an environment of its own: it needs another transformers than this project.

Reads a request from stdin, and writes `{"ms": …}`, the time of the fastest round, or `{"failed": …}` as the last
line of stdout; see `tests.benchmarks.qwen_faster`, which starts it.  It imports nothing of this project.
"""

import json
import sys
import time
from typing import Any


def main() -> None:
    """Answer the request."""
    try:
        answer: dict[str, Any] = {"ms": measure(json.load(sys.stdin))}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(answer), flush=True)


def measure(request: dict[str, Any]) -> float:
    """Speak a text alone, of so many frames, from the prompt to the samples; return the milliseconds."""
    import torch
    from faster_qwen3_tts import FasterQwen3TTS
    from qwen_tts import VoiceClonePromptItem

    device, dtype = request["device"], getattr(torch, request["dtype"])
    model = FasterQwen3TTS.from_pretrained(request["checkpoint"], device=device, dtype=dtype)
    codes = torch.tensor(request["codes"], device=device)
    speaker = torch.tensor(request["speaker"], device=device, dtype=dtype)
    item = VoiceClonePromptItem(codes, speaker, False, True, request["transcript"])
    frames = request["frames"]

    def speak() -> float:
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

    speak()  # whatever is done for the first time, such as the capture of graphs
    return min(speak() for _ in range(request["rounds"]))


if __name__ == "__main__":
    main()
