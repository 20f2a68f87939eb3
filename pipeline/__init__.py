"""Code that the stateless functions and the GPU worker share: domain rules and clients of external services.

From the lowest layer to the highest: `ids` and `errors`; the rules (`settings`, `records`, `layout`, `retention`),
which are pure functions; the clients of external services (`storage`, `queues`, `connections`, `audio`, created in
`resources`); the operations that use them (`sessions`, `voices`, `jobs`, `events`).  Layers import only lower ones.
"""

__version__ = "0.2.0"
