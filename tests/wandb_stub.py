"""A loopback server that speaks as much of W&B's protocol as wandb needs to run online."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbStub:
    """Collects the history rows of the runs sent to it; can go down and come back on its port."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.operations: list[str] = []
        self.configs: list[str] = []
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.up()

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start to answer."""
        stub = self

        class Handler(BaseHTTPRequestHandler):
            # HTTP/1.0 by default: no connection outlives `down`.
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(stub.answer(self.path, body))

            def do_GET(self) -> None:
                self._answer({})

            do_PUT = do_POST

            def _answer(self, content: dict[str, Any]) -> None:
                payload = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections until `up`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the answer to one request and remember what it brought."""
        if "file_stream" in path:
            files = json.loads(body).get("files") or {}
            lines = (files.get("wandb-history.jsonl") or {}).get("content", [])
            self.rows.extend(json.loads(line) for line in lines)
            return {"exitcode": None, "limits": {}}
        if not path.endswith("/graphql"):
            return {}
        request = json.loads(body)
        query, variables = request.get("query", ""), request.get("variables", {})
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = found[1] if found else ""
        self.operations.append(operation)
        return {"data": self._data(operation, variables)}

    def _data(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "UpsertBucket":
                self.configs.append(variables.get("config") or "")
                project = {"name": "stub", "entity": {"name": "stub"}}
                bucket = {"id": "run", "name": variables.get("name"), "project": project}
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "Viewer":
                return {"viewer": {"id": "viewer", "entity": "stub", "username": "stub"}}
            case "CreateRunFiles":
                return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": []}}
            case _:
                return {}
