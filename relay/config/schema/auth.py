"""The schema of ``auth`` and ``credentials``: what a platform is shown so that it lets us in."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Tag, model_validator

from relay.config.problems import BadValue
from relay.config.schema.values import (
    Duration,
    JmesPath,
    Name,
    PlainUrl,
    PositiveDuration,
    Secret,
    SecretText,
    Section,
    Text,
    kind_or_use,
    reading,
    required,
    setting,
)

_NAMES = {"header": "Authorization", "query": "access_token"}


def _no_colon(value: str) -> str:
    if ":" in value:
        raise BadValue("E033", "a user with a colon in it cannot be sent", "RFC 7617 ends the user at the first one")
    return value


class BearerAuth(Section):
    """A fixed token in the Authorization header."""

    kind: Literal["bearer"] = required("Always `bearer`: says which form this is.")
    token: Secret = required("Sent as `Authorization: Bearer <token>`; use a ${file:...} reference.")


class BasicAuth(Section):
    """A user and a password in the Authorization header."""

    kind: Literal["basic"] = required("Always `basic`: says which form this is.")
    user: Annotated[Text, AfterValidator(reading(_no_colon))] = required("The user, or the consumer key.")
    password: SecretText = required("The password, or the consumer secret; use a ${file:...} reference.")


class QueryAuth(Section):
    """A fixed token in the URL's query."""

    kind: Literal["query"] = required("Always `query`: says which form this is.")
    name: Text = setting("access_token", "The query parameter that holds the token.")
    token: Secret = required("The token; use a ${file:...} reference.")


class TokenAnswer(Section):
    """Where the token endpoint's answer holds what; paths are JMESPath into its JSON."""

    access: JmesPath = setting("access_token", "The token.")
    expires_in: JmesPath = setting("expires_in", "Seconds the token lives.")
    refresh: JmesPath = setting("refresh_token", "The next refresh token, where the endpoint hands out a new one.")


class OAuth2Auth(Section):
    """A token fetched from a token endpoint: once for everyone who uses it, early, and anew when it is refused."""

    kind: Literal["oauth2"] = required("Always `oauth2`: says which form this is.")
    grant: Literal["client_credentials", "refresh_token"] = setting(
        "client_credentials", "How a token is got: with the client's own secret, or with a refresh token."
    )
    token_url: PlainUrl = required("The token endpoint. Asking it is not a request to the platform and takes no slot.")
    client_id: Text = required("The client, app id or app key.")
    client_secret: SecretText | None = setting(None, "The client's secret; use a ${file:...} reference.")
    refresh_token: SecretText | None = setting(
        None,
        "The first refresh token, for grant: refresh_token. Where the endpoint hands out a new one with each answer, "
        "that is kept instead: on disk with store.token_key, else in memory only.",
    )
    scope: Text | None = setting(None, "The scope asked for, if the endpoint wants one.")
    early: Duration = setting(
        "5m", "A new token is fetched this long before the old one ends, at most a quarter of its life before."
    )
    send: Literal["header", "query"] = setting("header", "Where the platform wants the token.")
    name: Text | None = setting(
        None,
        "Header or query parameter of the token. Not set: Authorization (as Bearer), or access_token in the query.",
    )
    request: Literal["form", "json", "query"] = setting(
        "form", "How the endpoint is asked: POST with a form or JSON, or GET with everything in the query."
    )
    client_auth: Literal["body", "basic"] = setting(
        "body", "Where id and secret of the client go: among the parameters, or as Basic in the Authorization header."
    )
    id_name: Text = setting("client_id", "What the endpoint calls the client's id, such as appid.")
    secret_name: Text = setting("client_secret", "What the endpoint calls the client's secret, such as secret.")
    params: dict[str, str] = setting(
        {}, "More parameters for the endpoint; they win over the usual ones, such as {grant_type: client_credential}."
    )
    answer: TokenAnswer = setting({}, "Where its answer holds token, lifetime and refresh token.")
    lifetime: PositiveDuration = setting("1h", "How long a token lives where the answer does not say.")
    timeout: PositiveDuration = setting("10s", "For one request to the token endpoint.")

    @model_validator(mode="after")
    @reading
    def _fits_the_grant(self) -> "OAuth2Auth":
        """Require what the grant needs and refuse what it does not use."""
        if self.grant == "refresh_token" and self.refresh_token is None:
            raise BadValue(
                "E033", "grant: refresh_token needs the first refresh_token", "add refresh_token: ${file:...}"
            )
        if self.grant == "client_credentials" and self.refresh_token is not None:
            raise BadValue("E033", "refresh_token has no meaning with this grant", "write grant: refresh_token")
        if self.grant == "client_credentials" and self.client_secret is None and not self.params:
            raise BadValue("E033", "grant: client_credentials needs a client_secret", "add client_secret: ${file:...}")
        if self.client_auth == "basic" and self.client_secret is None:
            raise BadValue("E033", "client_auth: basic needs a client_secret", "add client_secret: ${file:...}")
        return self

    @property
    def sent_as(self) -> str:
        """The header or query parameter that holds the token."""
        return self.name or _NAMES[self.send]


class UseAuth(Section):
    """A credential of the top-level `credentials`, shared with other platforms."""

    use: Name = required("The credential's name; all platforms that name it share one token.")


Auth = Annotated[
    Annotated[BearerAuth, Tag("bearer")]
    | Annotated[BasicAuth, Tag("basic")]
    | Annotated[QueryAuth, Tag("query")]
    | Annotated[OAuth2Auth, Tag("oauth2")]
    | Annotated[UseAuth, Tag("use")],
    Discriminator(kind_or_use),
]
Credential = Annotated[
    Annotated[BearerAuth, Tag("bearer")]
    | Annotated[BasicAuth, Tag("basic")]
    | Annotated[QueryAuth, Tag("query")]
    | Annotated[OAuth2Auth, Tag("oauth2")],
    Discriminator(kind_or_use),
]
AnyCredential = BearerAuth | BasicAuth | QueryAuth | OAuth2Auth
