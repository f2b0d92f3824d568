"""python3 post.py URL KEY BODY: post one callback, and repeat it under the same key until the answer is final."""

import http.client
import random
import sys
import time
import urllib.error
import urllib.request

# the relay is on this host: no proxy
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(url: str, key: str, body: bytes, tries: int = 8) -> str:
    """Return the relay's 202 answer. RuntimeError: refused for good, or no answer in ``tries``."""
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    wait, last = 0.0, ""
    for n in range(tries):
        time.sleep(wait)
        wait = min(30.0, 0.5 * 2**n) * random.uniform(0.5, 1)
        try:
            with HTTP.open(urllib.request.Request(url, body, headers), timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.reason}"
            if error.code < 500:
                raise RuntimeError(f"refused for good: {last}") from error
            wait = max(wait, float(error.headers["Retry-After"] or 0))
        except (OSError, http.client.HTTPException) as error:
            last = f"no answer: {error!r}"
    raise RuntimeError(f"{last}, {tries} times; keep it, and post it later under the same key")


if __name__ == "__main__":
    print(post(sys.argv[1], sys.argv[2], sys.argv[3].encode()))
