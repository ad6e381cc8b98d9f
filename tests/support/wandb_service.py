"""A stand-in for the API of Weights & Biases: it keeps what is sent, and answers as the service does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY, REPORT_ID = "us", "Vmlldzox"


@dataclass
class Service:
    """``requests``: the operation's name, its variables and the request's Authorization, of each of GraphQL;
    ``files``: the path and the body of each other. ``refuse``: what an operation is answered with in place of
    data."""

    projects: list[str] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)
    url: str = ""

    def sent(self, name: str) -> list[dict[str, Any]]:
        """The variables of each request of this operation, by its name whatever its case."""
        return [variables for one, variables, _ in self.requests if one.lower() == name.lower()]

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name in self.refuse:
            return {"errors": [{"message": self.refuse[name]}], "data": None}
        if name == "GetProjects":
            nodes = [_project(one, variables["entity"]) for one in self.projects]
            page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
            return {"data": {"models": {"pageInfo": page, "edges": [{"node": node} for node in nodes]}}}
        if name == "CreateProject":
            self.projects.append(variables["input"]["name"])
            project = _project(variables["input"]["name"], variables["input"]["entityName"])
            return {"data": {"result": {"project": project, "model": project, "inserted": True}}}
        if name == "upsertView":
            view = {
                **{"id": variables["id"] or REPORT_ID, "type": variables["type"], "name": variables["name"]},
                **{"displayName": variables["displayName"], "description": variables["description"]},
                **{"spec": variables["spec"], "updatedAt": "2026-01-01T00:00:00Z"},
                "project": _project(variables["projectName"], variables["entityName"]),
            }
            return {"data": {"upsertView": {"view": view, "inserted": True}}}
        if name == "UpsertBucket":
            project = _project(variables["project"], ENTITY) | {"entity": {"id": "RQ==", "name": ENTITY}}
            run = {"id": "UnVu", "name": variables["name"], "displayName": variables["displayName"]}
            run |= {"config": "{}", "sweepName": None, "historyLineCount": 0, "project": project}
            return {"data": {"upsertBucket": {"bucket": run, "inserted": True}}}
        if name == "CreateArtifact":  # there already: its files are not asked for
            artifact = {"id": "QXJ0", "state": "COMMITTED", "artifactSequence": {"id": "U2Vx"}}
            return {"data": {"createArtifact": {"artifact": artifact}}}
        if name == "CreateRunFiles":
            files = [{"name": one, "uploadUrl": f"{self.url}/{one}"} for one in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}}
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "flags": "{}"}
        return {"data": {"viewer": viewer | {"teams": {"edges": []}}, "serverInfo": None}}


def _project(name: str, entity: str) -> dict[str, Any]:
    own = {"__typename": "Project", "id": "UHJvamVjdA==", "name": name, "entityName": entity}
    return own | {"createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}


@contextmanager
def served(service: Service) -> Iterator[Service]:
    """At a free port of this machine, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            answer: dict[str, Any] = {}
            if self.path == "/graphql":
                asked = json.loads(body)
                name = (re.match(r"\s*(?:query|mutation)\s+(\w+)", asked["query"]) or ["", ""])[1]
                variables = asked.get("variables") or {}
                service.requests.append((name, variables, self.headers.get("Authorization", "")))
                answer = service.answer(name, variables)
            else:
                service.files.append((self.path, body))
            said = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
