"""Asks a real daemon everything its OpenAPI document allows, and much that it does not: ``make fuzz [EXAMPLES=500]``.

Both listeners, by schemathesis. What it looks for: an answer 5xx, a status, a content type or a body that the document
does not tell. A failure prints the request as a curl command and the seed that makes it again (``SEED=...``).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from relay.standin.ports import free_port

_BIN = Path(sys.executable).parent
_TOKEN = "token-for-the-fuzzing"  # noqa: S105 - of a daemon that lives a minute
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
_ENDLESS = "/v1/events"
_PATIENCE_S = 30.0
_LOOKS = 300


def main() -> int:
    """Return 0 when nothing was found."""
    with tempfile.TemporaryDirectory() as directory:
        ingest, admin = free_port(), free_port()
        file = Path(directory) / "config.yaml"
        file.write_text(_configuration(ingest, admin), encoding="utf-8")
        with (Path(directory) / "log").open("wb") as log:
            daemon = subprocess.Popen([_BIN / "relay", "run", "-c", file], stderr=log)  # noqa: S603 - our own
        try:
            _until_ready(admin)
            callback = _post(ingest)
            found = [_fuzz(side, port, directory, callback) for side, port in (("ingest", ingest), ("admin", admin))]
            assert daemon.poll() is None, f"the daemon ended with {daemon.returncode}"
        finally:
            daemon.terminate()
            daemon.wait(_PATIENCE_S)
        failures = [line for line in (Path(directory) / "log").read_text().splitlines() if "handler_failed" in line]
        print("\n".join(failures))
        return int(any(found) or bool(failures))


def _configuration(ingest: int, admin: int) -> str:
    users = [{"name": "fuzz", "role": "admin", "token": _TOKEN}]
    platform = {"url": "http://127.0.0.1:9/", "key": "order_id", "breaker": "off"}
    return json.dumps(
        {
            "version": 1,
            "ingest": {"listen": f"127.0.0.1:{ingest}"},
            "admin": {"listen": f"127.0.0.1:{admin}", "users": users},
            "platforms": {"shop-a": platform, "shop-b": platform},
            "routes": [{"match": {"event": "order.*"}, "to": ["shop-a", "shop-b"]}, {"otherwise": "dead_letter"}],
        }
    )


def _fuzz(side: str, port: int, directory: str, callback: str) -> int:
    """Fuzz one listener; names in paths are often those that there are, so that what lies behind them is reached."""
    known = Path(directory) / f"{side}.toml"
    known.write_text(f'[parameters]\n"path.platform" = "shop-a"\n"path.id" = "{callback}"\n', encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    command = [_BIN / "schemathesis", "--config-file", known, "run", f"{url}/openapi.json", "-u", url]
    command += ["-H", f"Authorization: Bearer {_TOKEN}", "--include-tag", side, "--exclude-path", _ENDLESS]
    command += ["--checks", _CHECKS, "--phases", "examples,coverage,fuzzing", "--request-timeout", "10"]
    command += ["-n", os.environ.get("EXAMPLES", "100"), "--no-color"]
    if seed := os.environ.get("SEED"):
        command += ["--seed", seed]
    return subprocess.run(command, check=False, cwd=directory).returncode  # noqa: S603 - our own


def _until_ready(port: int) -> None:
    for left in range(_LOOKS, 0, -1):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            if left == 1:
                raise
            time.sleep(0.1)


def _post(port: int) -> str:
    """Post a callback and return its id."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/platforms/shop-a/callbacks", b'{"order_id": "991"}', method="POST"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return str(json.load(answer)["id"])


if __name__ == "__main__":
    raise SystemExit(main())
