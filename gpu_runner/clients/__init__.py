"""Storage and queue clients in processes of their own, so that they do not hold the engine thread's GIL.

A call of botocore takes about a millisecond of CPU time, which is most of what a job costs besides its synthesis.
"""
