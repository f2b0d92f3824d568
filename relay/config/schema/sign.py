"""The schema of ``sign``: how a platform's requests are signed, compiled with the code that signs."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Tag, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.schema.values import (
    HeaderName,
    OrText,
    SecretText,
    SecretTexts,
    Section,
    Text,
    Texts,
    UtcOffset,
    kind_or_use,
    only_list,
    reading,
    required,
    setting,
)
from relay.wire.signing.digest import DigestName, Encoding, Hash, Out, SecretDigest, key_bytes
from relay.wire.signing.header import HeaderHmac, Signer, StandardWebhooks
from relay.wire.signing.keys import private_key, shared_key
from relay.wire.signing.rfc9421 import MADE_HEADERS, MessageSigner
from relay.wire.signing.sorted_parameters import ParameterText, SortedDigest, SortedSigner, SortedTerms
from relay.wire.signing.stamp import Stamp

RELAY_HEADERS = ("content-type", "content-encoding", "idempotency-key", "relay-attempt")
"""Headers that the pipeline sets on a request."""

_KEYED: dict[Hash, DigestName] = {
    "md5": "hmac-md5",
    "sha1": "hmac-sha1",
    "sha256": "hmac-sha256",
    "sha512": "hmac-sha512",
}
_ENCODING = "How the secret is written: as the text it is, or as base64 or hex of its bytes."


def _fields(value: Any) -> Any:
    if value == "all":
        return None
    if isinstance(value, str):
        raise BadValue("E015", f"{quoted(value)} is not a choice", "write fields: all, or a list of names")
    return only_list(value)


class _Sign(Section):
    """What all kinds share: the signer is made when the file is read, so that a mistake is found there."""

    @model_validator(mode="after")
    @reading
    def _can_sign(self) -> "_Sign":
        """Refuse settings that could not sign."""
        try:
            _ = self.signer
        except ValueError as error:
            raise BadValue("E032", str(error)) from None
        return self

    @cached_property
    def signer(self) -> Signer:
        """What signs by these settings. Raises ``ValueError``."""
        return self._signer()

    def _signer(self) -> Signer:
        raise AssertionError("each kind has its own")


class WebhooksSign(_Sign):
    """Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature over the exact bytes sent.

    Those are the compressed ones: write `compress: none` unless the platform verifies before it decompresses.
    """

    kind: Literal["standard-webhooks"] = required("Always `standard-webhooks`: says which form this is.")
    secret: SecretTexts = required("whsec_... or a list of them, the newest first; each signs, so keys can be rotated.")

    def _signer(self) -> Signer:
        return StandardWebhooks(self.secret)


class HmacSign(_Sign):
    """An HMAC in a header, over the body and a timestamp."""

    kind: Literal["hmac"] = required("Always `hmac`: says which form this is.")
    secret: SecretText = required("The shared secret; use a ${file:...} reference.")
    secret_encoding: Encoding = setting("text", _ENCODING)
    digest: Hash = setting("sha256", "The hash under the HMAC.")
    out: Out = setting("hex", "How the signature is written.")
    over: Text = setting(
        "{timestamp}.{body}",
        "What is signed; may name {timestamp} {body} (the exact bytes sent) {id} (the batch) {method} {url} "
        "{authority} {path} {query} {token} {secret}.",
    )
    header: HeaderName = setting("X-Signature", "The header of the signature.")
    prefix: str = setting("", "Stands before the signature in its header, such as sha256=.")
    timestamp_header: HeaderName | None = setting(None, "The header of the timestamp. Not set: none is sent.")
    timestamp: Text = setting("s", "Form of the timestamp: s, ms, or a strftime pattern.")
    tz: UtcOffset = setting("UTC", "Offset from UTC of a pattern's time, such as +08:00.")

    def _signer(self) -> Signer:
        if self.timestamp_header is not None and self.timestamp_header.lower() == self.header.lower():
            raise ValueError("header and timestamp_header are the same")
        return HeaderHmac(
            SecretDigest(_KEYED[self.digest], self.secret, encoding=self.secret_encoding, out=self.out),
            over=self.over,
            header=self.header,
            prefix=self.prefix,
            timestamp_header=self.timestamp_header,
            stamp=Stamp(self.timestamp, tz_s=self.tz),
        )


class SortedTimestamp(Section):
    """The timestamp parameter of a sorted signature."""

    name: Text = setting("timestamp", "Its name.")
    format: Text = setting("s", 's, ms, or a strftime pattern such as "%Y-%m-%d %H:%M:%S".')
    tz: UtcOffset = setting("UTC", "Offset from UTC of a pattern's time, such as +08:00.")


class SortedSign(_Sign):
    """Parameters sorted by name, joined, wrapped in the secret and digested: most Chinese open platforms."""

    kind: Literal["sorted"] = required("Always `sorted`: says which form this is.")
    secret: SecretText = required("The app secret; use a ${file:...} reference.")
    secret_encoding: Encoding = setting("text", _ENCODING)
    pair: Text = setting("{k}{v}", "How a parameter is written, from its name {k} and value {v}.")
    join: str = setting("", "Stands between parameters, such as &.")
    pre: str = setting(
        "{secret}", "Stands before them; may name {secret} {path} {url} {method} {timestamp} {token} {body} and `vars`."
    )
    post: str = setting("{secret}", "Stands behind them; may name the same.")
    value: Literal["raw", "json"] = setting("raw", "Values as they are, or as JSON (texts in quotes).")
    digest: DigestName = setting("md5", "The digest; hmac- ones are keyed with the secret.")
    out: Out = setting("HEX", "How the signature is written; HEX is upper case.")
    fields: Annotated[tuple[str, ...] | None, BeforeValidator(reading(_fields)), OrText("all")] = setting(
        "all", "Names of the parameters to sign; all: query, form body and what is added here."
    )
    drop_empty: bool = setting(True, "Leave parameters without a value out of the signature.")
    params: dict[str, str] = setting(
        {}, "Parameters added to each request, and signed, such as app_key. May name {timestamp} {token} {body}."
    )
    signed_only: dict[str, str] = setting(
        {}, 'Parameters signed but not sent, such as {param_json: "{body}"} where the body is sent as it is.'
    )
    vars: dict[str, str] = setting({}, "More names for `pre` and `post`, such as {action: eleme.order.getOrder}.")
    key: str = setting(
        "",
        "The key of an hmac- digest where it is not the secret alone, such as {timestamp}{secret}; names as in `pre`.",
    )
    to: Literal["query", "form", "json", "header"] = setting(
        "query", "Where params, timestamp and signature go; json: into the body, which must be an object."
    )
    name: Text = setting("sign", "The parameter, field, member or header of the signature.")
    timestamp: SortedTimestamp | None = setting(None, "The timestamp parameter. Not set: none is added.")

    def _signer(self) -> Signer:
        at = self.timestamp
        names = [self.name, *self.params, *([at.name] if at else [])]
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if twice is not None:
            raise ValueError(f"signature, timestamp and params share the name {twice}")
        return SortedSigner(
            SortedDigest(
                SecretDigest(self.digest, self.secret, encoding=self.secret_encoding, out=self.out),
                ParameterText(self.pair, self.join, self.value == "json", self.drop_empty),
                pre=self.pre,
                post=self.post,
                key=self.key,
                names=tuple(self.vars),
            ),
            SortedTerms(
                to=self.to,
                name=self.name,
                fields=None if self.fields is None else frozenset(self.fields),
                params=self.params,
                signed_only=self.signed_only,
                vars=self.vars,
                timestamp_name=at.name if at else None,
                stamp=Stamp(at.format, tz_s=at.tz) if at else Stamp(),
            ),
        )


class MessageSign(_Sign):
    """HTTP Message Signatures (RFC 9421)."""

    kind: Literal["rfc9421"] = required("Always `rfc9421`: says which form this is.")
    key_id: Text = required("Names the key to the platform.")
    algorithm: Literal["hmac-sha256", "ed25519", "rsa-pss-sha512", "ecdsa-p256-sha256"] = required(
        "hmac-sha256 takes a `secret`, the others a `private_key`."
    )
    secret: SecretText | None = setting(None, "The shared secret of hmac-sha256; use a ${file:...} reference.")
    secret_encoding: Encoding = setting("text", _ENCODING)
    private_key: SecretText | None = setting(None, "The private key as PEM; use a ${file:...} reference.")
    components: Texts = setting(
        ["@method", "@target-uri", "content-digest"],
        "What is signed: @method @target-uri @authority @scheme @request-target @path @query and names of headers. "
        "content-digest and date are added to the request where they are named.",
    )
    parameters: Texts = setting(["created", "keyid", "alg"], "What is stated beside: created, keyid, alg.")
    label: Text = setting("sig1", "Names the signature in its headers.")

    def _signer(self) -> Signer:
        if (self.algorithm == "hmac-sha256") != (self.secret is not None) or bool(self.secret) == bool(
            self.private_key
        ):
            needed = "secret" if self.algorithm == "hmac-sha256" else "private_key"
            raise ValueError(f"algorithm {self.algorithm} needs a {needed}, and nothing else to sign with")
        if self.private_key is None:
            signature = shared_key(key_bytes(self.secret or "", self.secret_encoding))
        else:
            signature = private_key(self.private_key, self.algorithm)
        return MessageSigner(
            key_id=self.key_id,
            algorithm=self.algorithm,
            signature=signature,
            components=self.components,
            parameters=self.parameters,
            label=self.label,
        )

    def unset(self, headers: dict[str, str]) -> list[str]:
        """Return the components that are headers nobody sets: neither the relay nor ``headers`` of the platform."""
        known = {*MADE_HEADERS, *RELAY_HEADERS, *(name.lower() for name in headers)}
        return [name for name in self.components if not name.startswith("@") and name.lower() not in known]


Sign = Annotated[
    Annotated[WebhooksSign, Tag("standard-webhooks")]
    | Annotated[HmacSign, Tag("hmac")]
    | Annotated[SortedSign, Tag("sorted")]
    | Annotated[MessageSign, Tag("rfc9421")],
    Discriminator(kind_or_use),
]
