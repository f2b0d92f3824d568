"""The personalities by name, as ``relay sandbox --personality NAME[:OPTIONS]`` takes them."""

from collections.abc import Callable
from difflib import get_close_matches

from relay.standin.personalities.cloudevents import CloudEvents
from relay.standin.personalities.exchange import Personality
from relay.standin.personalities.mixpanel_import import MixpanelImport
from relay.standin.personalities.options import Options, parse_options
from relay.standin.personalities.standard_webhooks import StandardWebhooksReceiver
from relay.standin.personalities.taobao_logistics import TaobaoLogistics
from relay.standin.personalities.wechat_shipping import WechatShipping
from relay.standin.personalities.woocommerce_batch import WoocommerceBatch

PERSONALITIES: dict[str, Callable[[Options], Personality]] = {
    "wechat-shipping": WechatShipping,
    "taobao-logistics": TaobaoLogistics,
    "standard-webhooks": StandardWebhooksReceiver,
    "woocommerce-batch": WoocommerceBatch,
    "mixpanel-import": MixpanelImport,
    "cloudevents": CloudEvents,
}


def check_personality(text: str) -> str:
    """Return ``text`` if that personality can be built. Raises ``ValueError`` with the name probably meant."""
    build_personality(text)
    return text


def build_personality(text: str) -> Personality:
    """Build a personality with an empty memory. Raises ``ValueError`` as ``check_personality`` does."""
    name, _, options = text.partition(":")
    make = PERSONALITIES.get(name)
    if make is None:
        close = get_close_matches(name, PERSONALITIES, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(PERSONALITIES)}"
        raise ValueError(f"{name!r} is not a personality; {hint}")
    return make(parse_options(options))
