"""The schema of ``outbound``: where requests of the relay may go at all."""

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from relay.config.problems import BadValue, quoted
from relay.config.schema.values import Section, only_list, reading, setting
from relay.wire.destinations import Destinations, Network, parse_network


def _network(value: Any) -> Network:
    try:
        if not isinstance(value, str):
            raise ValueError
        return parse_network(value)
    except ValueError:
        raise BadValue("E031", f"{quoted(value)} is no network", "write 10.2.0.0/16 or 10.2.0.7") from None


AllowedNetwork = Annotated[
    Any, PlainValidator(reading(_network)), WithJsonSchema({"type": "string", "examples": ["10.2.0.0/16"]})
]


class OutboundSettings(Section):
    """Where requests may go: to platforms, token endpoints and targets of alerts alike."""

    deny_private: bool = setting(
        False,
        "Deny addresses that are not of the public Internet (private, loopback, link-local, multicast, in every form). "
        "Looked at when connecting, after DNS; of a platform with a proxy it is the proxy's.",
    )
    allow: Annotated[tuple[AllowedNetwork, ...], BeforeValidator(only_list)] = setting(
        [], "Networks that are allowed all the same: [10.2.0.0/16]."
    )

    def compiled(self) -> Destinations:
        """Return what is asked for each address."""
        return Destinations(self.deny_private, tuple(self.allow))
