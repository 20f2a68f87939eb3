"""The stateless entry points: the same code runs as AWS Lambda handlers and under uvicorn."""

import os

# Before numpy is imported: the threads of its matrix products wait actively for each other, and on busy cores the
# detection of the watermark takes ten times as long with them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
