"""OAuth 2 client credentials as gateways ask for them (RFC 6749, 6750), for platforms that leave the login open."""

from urllib.parse import unquote

from relay.standin.personalities.exchange import PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path


def refuse_bearer(request: PlatformRequest, memory: Memory) -> PlatformAnswer | None:
    """Return the 401 for a request without a good token; None if the token is good or none is asked for."""
    if not memory.options.bearer:
        return None
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    fault = memory.tokens.use(token, request.now) if scheme.lower() == "bearer" else "unknown"
    if fault is None:
        return None
    memory.counts["bad_token"] += 1
    why = "The access token expired" if fault == "expired" else "The access token is unknown"
    challenge = f'Bearer error="invalid_token", error_description="{why}"'
    return PlatformAnswer(
        401, {"error": "invalid_token"}, headers={"WWW-Authenticate": challenge}, name=f"401 token {fault}"
    )


def grant(request: PlatformRequest, memory: Memory) -> PlatformAnswer:
    """Answer a request for a token. The client names itself in the form or by Basic authentication."""
    form = request.form()
    client = (form.get("client_id", ""), form.get("client_secret", ""))
    basic = request.basic()
    if basic is not None:
        user, _, password = basic.partition(":")
        client = (unquote(user), unquote(password))
    if client != (memory.options.app_id, memory.options.secret):
        return PlatformAnswer(401, {"error": "invalid_client"})
    token = memory.tokens.issue(request.now)
    return PlatformAnswer(
        200, {"access_token": token, "token_type": "Bearer", "expires_in": int(memory.options.token_ttl_s)}
    )


def client(memory: Memory) -> str:
    """Return in words which client gets tokens; an empty text where no token is asked for."""
    options = memory.options
    if not options.bearer:
        return ""
    return f"client_id {options.app_id}, client_secret {options.secret}, token_url {TOKEN_PATH}"
