"""The published networks, executed in a way that suits a GPU: static buffers, few large operations, no host reads.

`layers` holds the weights and one transformer layer, `sampling` the choice of a code, `slots` the state
of the rows in flight, `prefill` and `frame` the two functions that advance them, `graphs` replays those on a
GPU, and `codec` turns frames of codes into samples.
"""
