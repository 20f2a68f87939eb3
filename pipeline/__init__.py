"""Code that the stateless functions and the GPU worker share: domain rules and clients of external services.

The layers, from the lowest to the highest: `ids` and `errors`, `settings`, `contract` (data formats) and `audio`,
`clients` of external services, `access` (keys and limits), `domain` (operations).  Layers import only lower ones.
"""

__version__ = "0.2.0"
