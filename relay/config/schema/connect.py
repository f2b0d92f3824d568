"""The schema of ``connect``: how requests to one platform leave this machine."""

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.schema.values import Duration, PlainUrl, SecretText, Section, reading, setting


def _parse_source(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise BadValue("E034", f"{quoted(value)} is not an address of this machine", "write 10.0.0.5") from None


Source = Annotated[str, PlainValidator(reading(_parse_source)), WithJsonSchema({"type": "string"})]


class Connect(Section):
    """Proxy, trust, client certificate, name cache and source address."""

    proxy: PlainUrl | None = setting(None, "HTTP proxy for this platform: http://proxy.example:3128.")
    proxy_auth: SecretText | None = setting(None, "user:password for the proxy; use a ${file:...} reference.")
    ca: str | None = setting(
        None, "PEM file of the authorities to trust instead of the system's; relative to the configuration file."
    )
    cert: str | None = setting(None, "PEM file of our client certificate, and its chain.")
    key: str | None = setting(None, "PEM file of its private key, where that is not in `cert`.")
    dns_cache: Duration = setting("30s", "How long a resolved name is used; 0s resolves for every connection.")
    source: Source | None = setting(None, "Local address requests leave from, where the platform knows us by it.")

    @model_validator(mode="after")
    @reading
    def _complete(self) -> Self:
        """Refuse halves of a pair."""
        if self.key is not None and self.cert is None:
            raise BadValue("E034", "connect.key has no certificate beside it", "set cert, or remove key")
        if self.proxy_auth is not None and "@" in urlsplit(self.proxy or "").netloc:
            raise BadValue("E034", "connect.proxy has a login in it, and proxy_auth is another", "remove one of them")
        if self.proxy_auth is not None and (self.proxy is None or ":" not in self.proxy_auth):
            raise BadValue("E034", "connect.proxy_auth needs a proxy, and the form user:password")
        return self

    def tls(self, directory: Path) -> ssl.SSLContext | None:
        """Return the context that trusts and shows what is configured; None for the system's.

        Relative files lie in ``directory``. Raises ``BadValue`` naming the file that cannot be used.
        """
        if self.ca is None and self.cert is None:
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(directory / self.ca))
        except (OSError, ssl.SSLError) as error:
            raise BadValue("E034", f"connect.ca: {directory / str(self.ca)}: {why_unusable(error)}") from None
        if self.cert is not None:
            key = None if self.key is None else str(directory / self.key)
            try:
                # an encrypted key would ask for its password on the terminal: an empty one makes it an error
                context.load_cert_chain(str(directory / self.cert), key, password="")
            except (OSError, ssl.SSLError) as error:
                raise BadValue("E034", f"connect.cert: {directory / self.cert}: {why_unusable(error)}") from None
        return context


def why_unusable(error: OSError) -> str:
    """Return why a PEM file cannot be used."""
    if isinstance(error, ssl.SSLError):
        return "not a PEM file that fits"
    return error.strerror or type(error).__name__
