"""A fake of the ECS agent's endpoint for task protection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

TASK = "arn:aws:ecs:us-east-1:111122223333:task/workers/1234567890abcdef0"


def refusal(reason: str) -> dict[str, object]:
    """Return the agent's response if ECS refuses."""
    return {"failure": {"Arn": TASK, "Detail": None, "Reason": reason}}


def error(code: str, message: str) -> dict[str, object]:
    """Return the agent's response if it can't reach ECS."""
    return {"requestID": "12345-abc", "error": {"Arn": TASK, "Code": code, "Message": message}}


@dataclass(slots=True)
class FakeAgent:
    """Grants every request, unless `answer` is set."""

    url: str = ""
    requests: list[dict[str, object]] = field(default_factory=list)
    """The request bodies, in order."""
    answer: dict[str, object] | None = None
    is_protected: bool = False

    @property
    def protection_requests(self) -> list[bool]:
        """Whether each request enabled the protection, in order."""
        return [bool(body["ProtectionEnabled"]) for body in self.requests]

    async def put(self, request: web.Request) -> web.Response:
        """Respond like the agent: with status 200 even if ECS refuses."""
        body = await request.json()
        self.requests.append(body)
        if self.answer is not None:
            return web.json_response(self.answer, status=400 if "error" in self.answer else 200)
        self.is_protected = body["ProtectionEnabled"]
        state = {"ProtectionEnabled": self.is_protected, "TaskArn": TASK}
        return web.json_response({"protection": state | {"ExpirationDate": "2026-01-01T00:10:00Z"}})


@asynccontextmanager
async def fake_agent() -> AsyncIterator[FakeAgent]:
    """Serve an agent until the context ends."""
    agent = FakeAgent()
    app = web.Application()
    app.router.add_put("/api/container-1/task-protection/v1/state", agent.put)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        agent.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/container-1"
        yield agent
    finally:
        await runner.cleanup()
