"""OAuth 2 client credentials as a gateway asks for them, where a platform leaves that open (RFC 6749, 6750)."""

from urllib.parse import unquote

from relay.standin.personalities.exchange import Asked, Told
from relay.standin.personalities.memory import Memory

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path


def refuse_bearer(asked: Asked, memory: Memory) -> Told | None:
    """Return the 401 for a request without a good token, None where it is good or nobody asks."""
    if not memory.options.bearer:
        return None
    scheme, _, token = asked.headers.get("authorization", "").partition(" ")
    fault = memory.tokens.use(token, asked.now) if scheme.lower() == "bearer" else "unknown"
    if fault is None:
        return None
    memory.counts["bad_token"] += 1
    why = "The access token expired" if fault == "expired" else "The access token is unknown"
    challenge = f'Bearer error="invalid_token", error_description="{why}"'
    return Told(401, {"error": "invalid_token"}, headers={"WWW-Authenticate": challenge}, name=f"401 token {fault}")


def grant(asked: Asked, memory: Memory) -> Told:
    """Answer the token endpoint; the client is named in the form or by Basic."""
    form = asked.form()
    client = (form.get("client_id", ""), form.get("client_secret", ""))
    basic = asked.basic()
    if basic is not None:
        user, _, password = basic.partition(":")
        client = (unquote(user), unquote(password))
    if client != (memory.options.app_id, memory.options.secret):
        return Told(401, {"error": "invalid_client"})
    token = memory.tokens.issue(asked.now)
    return Told(200, {"access_token": token, "token_type": "Bearer", "expires_in": int(memory.options.token_ttl_s)})


def client(memory: Memory) -> str:
    """Return the client that is given tokens, in words; nothing where no token is asked for."""
    options = memory.options
    if not options.bearer:
        return ""
    return f"client_id {options.app_id}, client_secret {options.secret}, token_url {TOKEN_PATH}"
