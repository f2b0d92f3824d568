"""What no single value of ``alerts`` shows: names of targets, rules and credentials that there are none of."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from relay.config.problems import nearest, quoted
from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted, problem_at
from relay.config.schema.alerts import RULE_NAMES, AppriseTarget
from relay.config.schema.auth import UseAuth
from relay.config.schema.file import Config


def alert_contradictions(config: Config) -> Iterator[PlacedProblem]:
    """Yield what makes the section ``alerts`` unusable although every value can be read."""
    alerts = config.alerts
    for name, rule in alerts.rules.by_name().items():
        yield from _targets(config, ("alerts", "rules", name, "to"), rule.to or ())
    yield from _targets(config, ("alerts", "default_to"), alerts.default_to or ())
    if config.audit.head_to is not None:
        yield from _target(config, ("audit", "head_to"), config.audit.head_to)
    for index, rule_name in enumerate(alerts.quiet.except_ if alerts.quiet is not None else ()):
        if rule_name not in RULE_NAMES:
            path: KeyPath = ("alerts", "quiet", "except", index)
            what = f"{dotted(path)}: there is no rule {quoted(rule_name)}"
            yield problem_at(path, "E071", what, nearest(rule_name, RULE_NAMES))
    for name, target in alerts.targets.items():
        where: KeyPath = ("alerts", "targets", name)
        auth = getattr(target, "auth", None)
        if isinstance(auth, UseAuth) and auth.use not in config.credentials:
            path = (*where, "auth", "use")
            hint = nearest(auth.use, config.credentials) or "add it under `credentials:`"
            what = f"{dotted(path)}: there is no credential {quoted(auth.use)}"
            yield problem_at(path, "E055", what, hint, relies_on=[("credentials", auth.use)])
        if isinstance(target, AppriseTarget) and config.outbound.deny_private:
            what = f"{dotted(where)}: apprise connects by itself, so outbound.deny_private cannot hold for it"
            yield problem_at(
                (*where, "kind"), "E051", what, "use kind: webhook", relies_on=[("outbound", "deny_private")]
            )
        if isinstance(target, AppriseTarget) and find_spec("apprise") is None:
            what = f"{dotted(where)}: kind apprise needs the library apprise"
            yield problem_at((*where, "kind"), "E072", what, "install callback-relay[alerts]")


def _targets(config: Config, path: KeyPath, names: Iterable[str]) -> Iterator[PlacedProblem]:
    for index, name in enumerate(names):
        yield from _target(config, (*path, index), name)


def _target(config: Config, path: KeyPath, name: str) -> Iterator[PlacedProblem]:
    if name not in config.alerts.targets:
        what = f"{dotted(path)}: there is no alert target {quoted(name)}"
        hint = nearest(name, config.alerts.targets) or "add it under `alerts.targets:`"
        yield problem_at(path, "E070", what, hint, relies_on=[("alerts", "targets", name)])
