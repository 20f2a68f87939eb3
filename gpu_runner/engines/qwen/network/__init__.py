"""The published networks, executed with static buffers, few large operations and no host reads.

`layers` contains the weights and a transformer layer, `sampling` samples a code, and `slots` holds the state of the
rows in flight. `prefill` and `frame` advance them, and `graphs` replays both on a GPU. `codec` decodes codes to
samples.
"""
