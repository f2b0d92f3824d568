"""The signature of most Chinese open platforms: parameters sorted by name, joined, wrapped in a secret and digested.

One function with a handful of templates reproduces TOP, JD, Pinduoduo, Doudian, 1688, Kuaishou, Xiaohongshu and Ele.me.
The vectors in ``tests/unit/vectors`` say which settings each takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from relay.wire.signing.digest import SecretDigest
from relay.wire.signing.draft import Draft, fields_of
from relay.wire.signing.header import request_values
from relay.wire.signing.stamp import Stamp
from relay.wire.signing.template import Template

PAIR_NAMES: Final = ("k", "v")
WRAP_NAMES: Final = ("secret", "path", "url", "method", "timestamp", "token", "body")
VALUE_NAMES: Final = ("timestamp", "token", "body")
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ParameterText:
    """How parameters are written before they are digested: ``{a: 1, b: 2}`` as ``a1b2``, or with ``&`` as ``a=1&b=2``.

    ``pair`` may name PAIR_NAMES, ``join`` stands between pairs. ``json_values`` writes texts in quotes, as JSON has
    them; ``drop_empty`` leaves out parameters without a value.
    """

    pair: str = "{k}{v}"
    join: str = ""
    json_values: bool = False
    drop_empty: bool = True


class SortedDigest:
    """``digest(pre + join(pair of each parameter, sorted by name) + post)`` as text. Raises ``ValueError``.

    ``pre``, ``post`` and ``key`` may name WRAP_NAMES and ``names``. HMAC digests are keyed with the secret, or with
    what ``key`` says: Feishu's robots want timestamp, line feed and secret.
    """

    def __init__(
        self,
        digest: SecretDigest,
        text: ParameterText,
        *,
        pre: str = "{secret}",
        post: str = "{secret}",
        key: str = "",
        names: Sequence[str] = (),
    ) -> None:
        self._digest = digest
        self._key = Template(key, (*WRAP_NAMES, *names))
        if key and not digest.is_keyed:
            raise ValueError("only an hmac- digest has a key")
        self._pair = Template(text.pair, PAIR_NAMES)
        self._join = text.join.encode()
        self._json = text.json_values
        self._drop_empty = text.drop_empty
        self._pre = Template(pre, (*WRAP_NAMES, *names))
        self._post = Template(post, (*WRAP_NAMES, *names))

    @property
    def secret(self) -> bytes:
        """What ``{secret}`` stands for."""
        return self._digest.secret

    @property
    def names(self) -> frozenset[str]:
        """What ``pre``, ``post`` and ``key`` name."""
        return self._pre.names | self._post.names | self._key.names

    def of(self, parameters: Mapping[str, Value], wrap: Mapping[str, bytes]) -> str:
        """Return the signature of ``parameters``; ``wrap`` holds what ``names`` says, at least."""
        pairs = [
            self._pair.fill({"k": name.encode(), "v": self._write(value)})
            for name, value in sorted(parameters.items())
            if not (self._drop_empty and (value is None or value == ""))
        ]
        key = self._key.fill(wrap) if self._key.text else None
        return self._digest.of(self._pre.fill(wrap) + self._join.join(pairs) + self._post.fill(wrap), key=key)

    def _write(self, value: Value) -> bytes:
        if self._json or not isinstance(value, str):
            return b"" if value is None and not self._json else msgspec.json.encode(value)
        return value.encode()


@dataclass(frozen=True, slots=True)
class SortedTerms:
    """What is signed and where it goes. ``fields`` None means all; ``vars`` are texts that pre and post may name.

    ``params`` are sent and signed, ``signed_only`` are signed and not sent; the values of both may name VALUE_NAMES.
    """

    to: Literal["query", "form", "json", "header"] = "query"
    name: str = "sign"
    fields: frozenset[str] | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    signed_only: Mapping[str, str] = field(default_factory=dict)
    vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    timestamp_name: str | None = None
    stamp: Stamp = field(default_factory=Stamp)


class SortedSigner:
    """Adds the parameters every request needs, the timestamp and the signature, to query, form or headers.

    Signed are the query's parameters (a token in it included), a form body's fields, and what it adds itself, as far
    as ``fields`` names them. Raises ``ValueError`` for templates that name something else.
    """

    before_coding: Final = True  # a form or object is still readable then, and may grow

    def __init__(self, digest: SortedDigest, terms: SortedTerms) -> None:
        self._digest = digest
        self._terms = terms
        self._params = {name: Template(text, VALUE_NAMES) for name, text in terms.params.items()}
        self._signed_only = {name: Template(text, VALUE_NAMES) for name, text in terms.signed_only.items()}
        self._vars = {name: text.encode() for name, text in terms.vars.items()}

    def sign(self, draft: Draft, *, wall: float) -> Draft:
        """Return ``draft`` with parameters, timestamp and signature added."""
        terms = self._terms
        timestamp = terms.stamp.write(wall)
        known = request_values(draft, timestamp, self._digest.secret)
        sent: dict[str, str] = {name: text.fill_lazily(known).decode() for name, text in self._params.items()}
        if terms.timestamp_name is not None:
            sent[terms.timestamp_name] = timestamp
        covered: dict[str, Value] = dict(fields_of(draft.query))
        if draft.is_form:
            covered.update(fields_of(draft.body.decode("ascii", "surrogateescape")))
        covered.update(sent)
        covered.update({name: text.fill_lazily(known).decode() for name, text in self._signed_only.items()})
        covered.pop(terms.name, None)
        if terms.fields is not None:
            covered = {name: value for name, value in covered.items() if name in terms.fields}
        if terms.timestamp_name in covered and terms.stamp.is_number:
            covered[terms.timestamp_name] = int(timestamp)
        wrap = {name: self._vars[name] if name in self._vars else known[name]() for name in self._digest.names}
        sent[terms.name] = self._digest.of(covered, wrap)
        if terms.to == "query":
            return draft.with_query(sent.items())
        if terms.to == "json":
            return draft.with_members(sent.items())
        return draft.with_form(sent.items()) if terms.to == "form" else draft.with_headers(sent.items())
