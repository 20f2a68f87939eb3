"""The long-running worker: receives jobs from the queue, synthesizes them in batches, stores the results."""

import os
import platform

# As in `functions`. torch is not affected on these machines, because it uses MKL.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
