"""The schema of ``tls`` of a listener: the certificate it shows, and whose certificates it wants to see."""

import ssl
from pathlib import Path

from relay.config.problems import BadValue
from relay.config.schema.connect import why_unusable
from relay.config.schema.values import Section, Text, required, setting


class ListenerTls(Section):
    """TLS for one listener. A reload reads the files again, for the connections made from then on."""

    cert: Text = required("PEM file of the certificate and its chain; relative to the configuration file.")
    key: Text | None = setting(None, "PEM file of its private key, where that is not in `cert`.")
    client_ca: Text | None = setting(
        None, "PEM file of authorities: only clients with a certificate of one of them are served."
    )

    def context(self, directory: Path) -> ssl.SSLContext:
        """Return the context of the listener, TLS 1.2 or newer. Raises ``BadValue`` naming the file at fault."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        key = None if self.key is None else str(directory / self.key)
        try:
            # an encrypted key would ask for its password on the terminal: an empty one makes it an error
            context.load_cert_chain(str(directory / self.cert), key, password="")
        except (OSError, ssl.SSLError) as error:
            raise BadValue("E034", f"tls.cert: {directory / self.cert}: {why_unusable(error)}") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(str(directory / self.client_ca))
            except (OSError, ssl.SSLError) as error:
                raise BadValue("E034", f"tls.client_ca: {directory / self.client_ca}: {why_unusable(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context
