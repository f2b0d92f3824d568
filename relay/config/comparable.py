"""What no single value of ``reconcile`` shows: an unknown platform, columns and statuses that do not fit together."""

from collections.abc import Iterator

from relay.config.problems import nearest, quoted
from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted, problem_at
from relay.config.schema.file import Config


def reconcile_contradictions(config: Config) -> Iterator[PlacedProblem]:
    """Yield what makes the section ``reconcile`` unusable although every value can be read."""
    for name, compared in config.reconcile.items():
        path: KeyPath = ("reconcile", name)
        if name not in config.platforms:
            hint = nearest(name, config.platforms) or "add it under `platforms:`"
            yield problem_at(
                path,
                "E062",
                f"{dotted(path)}: there is no platform {quoted(name)}",
                hint,
                relies_on=[("platforms", name)],
            )
        ours, theirs = compared.columns.of_order_center().also, compared.columns.of_platform().also
        if len(ours) != len(theirs):
            where = dotted((*path, "columns"))
            what = f"{where}: `also` names {len(ours)} columns on one side, {len(theirs)} on the other"
            yield problem_at((*path, "columns"), "E051", what, "name the same values on both sides, in one order")
        for column in compared.tolerance:
            if column not in ours:
                place: KeyPath = (*path, "tolerance", column)
                what = f"{dotted(place)}: `also` of the order center has no {quoted(column)}"
                yield problem_at(
                    place, "E051", what, nearest(column, ours) or "add it to `also`", relies_on=[(*path, "columns")]
                )
        for word in compared.stuck:
            if word not in compared.order:
                place = (*path, "stuck", word)
                what = f"{dotted(place)}: `order` has no {quoted(word)}"
                yield problem_at(
                    place,
                    "E051",
                    what,
                    nearest(word, compared.order) or "add it to `order`",
                    relies_on=[(*path, "order")],
                )
