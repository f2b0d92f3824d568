"""The schema of what is shown of payloads: ``privacy.mask``, ``privacy.views`` and ``privacy.reveals``."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, PlainValidator, PrivateAttr, WithJsonSchema, model_validator

from relay.config.problems import BadValue, nearest, quoted
from relay.config.reading.units import parse_rate
from relay.config.schema.values import Name, Section, only_list, reading, required, setting
from relay.core.model import Rate
from relay.privacy.masking import How, KeepEnds, Kind
from relay.privacy.views import PathRule, Shade, View, parse_path

_KINDS: tuple[str, ...] = get_args(Kind)
_LISTS = ("show", "mask", "hide")
_MOST_KEPT = 20  # characters of a masked value


def _path(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise BadValue("E013", "a path must be text", "write receiver.name")
    try:
        return parse_path(value)
    except ValueError as error:
        raise BadValue("E031", f"{quoted(value)} is no path into a payload: {error}", "write receiver.name") from None


def _how(value: Any) -> How:
    if isinstance(value, dict):
        kept = value.get("keep") if set(value) == {"keep"} else None
        if (
            not isinstance(kept, list)
            or len(kept) != 2
            or not all(type(n) is int and 0 <= n <= _MOST_KEPT for n in kept)
        ):
            raise BadValue("E015", "keep needs two numbers of characters", "write {keep: [3, 4]}")
        return KeepEnds(kept[0], kept[1])
    if value not in _KINDS:
        hint = nearest(str(value), _KINDS) or f"choices are {', '.join(_KINDS)} and {{keep: [3, 4]}}"
        raise BadValue("E015", f"{quoted(value)} is no kind of value", hint)
    kind: Kind = value
    return kind


PayloadPath = Annotated[
    tuple[str, ...], PlainValidator(reading(_path)), WithJsonSchema({"type": "string", "examples": ["receiver.name"]})
]
PayloadPaths = Annotated[tuple[PayloadPath, ...], BeforeValidator(only_list)]
_KEEP_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
MaskAs = Annotated[
    Any,
    PlainValidator(reading(_how)),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(_KINDS)},
                {"type": "object", "properties": {"keep": _KEEP_SCHEMA}, "additionalProperties": False},
            ]
        }
    ),
]
RevealRate = Annotated[
    Rate, PlainValidator(reading(parse_rate)), WithJsonSchema({"type": "string", "examples": ["30/h"]})
]


class MaskSettings(Section):
    """How one value of payloads is masked."""

    path: PayloadPath = required("Where it stands: receiver.name; items.phone in each item of a list; * for any key.")
    as_: MaskAs = required(
        "phone, id_card, bank_card, email, name, address; hide: nobody sees more than ***; {keep: [3, 4]}: the first "
        "3 and the last 4 characters.",
        alias="as",
    )


class ViewSettings(Section):
    """Who sees what of a payload: the first list with a path that fits, in the order written, else `default`."""

    show: PayloadPaths = setting([], "Paths that are shown as they came, with all that lies under them.")
    mask: PayloadPaths = setting([], "Paths that are masked.")
    hide: PayloadPaths = setting([], "Paths that are shown as ***; `key` stands for the ordering key too.")
    default: Literal["hide", "mask", "show"] = setting("hide", "What becomes of everything else.")

    _order: tuple[str, ...] = PrivateAttr(default=_LISTS)

    @model_validator(mode="wrap")
    @classmethod
    def _in_order(cls, value: Any, handler: Callable[[Any], "ViewSettings"]) -> "ViewSettings":
        """Remember the order of the lists: it decides."""
        made = handler(value)
        if isinstance(value, dict):
            made._order = tuple(name for name in value if name in _LISTS)
        return made

    @property
    def rules(self) -> tuple[PathRule, ...]:
        """The rules in their order."""
        return tuple(PathRule(path, Shade(name)) for name in self._order for path in getattr(self, name))

    def compiled(self) -> View:
        """Return the view as it is asked."""
        return View(self.rules, Shade(self.default))


class Shown(Section):
    """What people see of the personal data in callbacks."""

    mask: Annotated[tuple[MaskSettings, ...], BeforeValidator(only_list)] = setting(
        [], "How values are masked, beside phones, identity and bank cards and e-mail, which are recognised."
    )
    views: dict[Name, ViewSettings] = setting(
        {}, "Who sees what of a payload, by name, for `view` of admin.users. Without a view everything is masked."
    )
    reveals: RevealRate = setting("30/h", "Reveals of whole payloads that each user may ask for.")

    @property
    def masks(self) -> tuple[tuple[tuple[str, ...], How], ...]:
        """How values are masked, by their paths."""
        return tuple((mask.path, mask.as_) for mask in self.mask)

    def compiled(self) -> dict[str, View]:
        """Return the views by name."""
        return {name: view.compiled() for name, view in self.views.items()}
