"""Storage and queue clients in processes of their own, so that the engine's thread has the interpreter for itself.

A call of botocore takes about a millisecond of CPU time, which is most of what a job costs besides its synthesis.
"""
