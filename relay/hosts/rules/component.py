"""Components: the platforms that share quotas, and must therefore be sent to by one host.

Two platforms that name the same quota are in one component; so are two that are linked through a third. A platform
without a shared quota is a component of its own. Example: shop-a and shop-b name ``wechat``, shop-b and shop-c name
``courier``, shop-d names nothing: the components are (shop-a, shop-b, shop-c) and (shop-d).
"""

from collections.abc import Iterable, Mapping

Component = tuple[str, ...]
"""The names of the platforms, in name order. Leases are taken in this order."""


def components(quotas_of: Mapping[str, Iterable[str]]) -> tuple[Component, ...]:
    """Return the components of the platforms, given the quotas that each names."""
    leader: dict[str, str] = {platform: platform for platform in quotas_of}

    def find(platform: str) -> str:
        while leader[platform] != platform:
            leader[platform] = platform = leader[leader[platform]]
        return platform

    first_of: dict[str, str] = {}
    for platform, quotas in quotas_of.items():
        for quota in quotas:
            leader[find(platform)] = find(first_of.setdefault(quota, platform))
    found: dict[str, list[str]] = {}
    for platform in sorted(quotas_of):
        found.setdefault(find(platform), []).append(platform)
    return tuple(tuple(names) for names in found.values())
