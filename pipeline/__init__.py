"""What the stateless functions and the GPU worker share: the rules of the domain and the way to the outside.

The ground (`ids`, `errors`) carries the rules (`settings`, `records`, `layout`, `retention`), which are plain
functions over plain data; these carry the outside world (`storage`, `queues`, `connections`, `audio`, wired in
`resources`); on top stands what one does with them (`sessions`, `voices`, `jobs`, `events`).  Imports only go down.
"""
