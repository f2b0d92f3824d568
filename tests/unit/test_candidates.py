"""Which limits the evidence suggests asking about."""

from relay.policy.candidates import Candidates
from relay.policy.evidence import Evidence, Kind
from relay.policy.families import Family

WINDOW_S = 60.0


def test_no_window_begins_while_the_platform_refused() -> None:
    """100 a minute by the clock, asked ever more rarely: the one alignment that leaves no refusal unexplained."""
    evidence = Evidence()
    for first, refused in (
        (960.0, (961.3, 967.8, 976.6, 988.2, 1006.5)),
        (1041.0, (1042.2, 1049.0, 1057.0, 1070.0)),
        (1089.3, (1090.6, 1097.0, 1105.0, 1117.4, 1131.6)),
        (1161.6, (1162.8,)),
    ):
        for number in range(100):
            evidence.accept(first + 0.012 * number, first + 0.012 * number + 0.05)
        for at in refused:
            evidence.reject(at, at + 0.05, Kind.BUSY, None, probe=False)
    asked = Candidates(
        evidence.accepted, [reject.sent for reject in evidence.rejects], evidence.closures(), evidence.slack_s
    )
    aligned = [each for each in asked.exact() if each.family is Family.FIXED and each.high_s == WINDOW_S]
    assert [(each.n, each.errors) for each in aligned if each.n == 100] == [(100, 0)]
