"""Which limits the evidence suggests asking about."""

from relay.limits.evidence.history import History, Signal
from relay.limits.fit.candidates import Candidates
from relay.limits.fit.families import Family
from relay.limits.fit.phases import starts_between

WINDOW_S = 60.0


def test_no_window_begins_while_the_platform_refused() -> None:
    """100 a minute by the clock, asked ever more rarely: the one alignment that leaves no refusal unexplained."""
    evidence = History()
    for first, refused in (
        (960.0, (961.3, 967.8, 976.6, 988.2, 1006.5)),
        (1041.0, (1042.2, 1049.0, 1057.0, 1070.0)),
        (1089.3, (1090.6, 1097.0, 1105.0, 1117.4, 1131.6)),
        (1161.6, (1162.8,)),
    ):
        for number in range(100):
            evidence.accept(first + 0.012 * number, first + 0.012 * number + 0.05)
        for at in refused:
            evidence.reject(at, at + 0.05, Signal.BUSY, None, probe=False)
    asked = Candidates(
        evidence.accepted, [reject.sent for reject in evidence.rejects], evidence.closures(), evidence.slack_s
    )
    aligned = [each for each in asked.exact() if each.family is Family.FIXED and each.high_s == WINDOW_S]
    assert [(each.n, each.errors) for each in aligned if each.n == 100] == [(100, 0)]


def test_a_window_began_where_more_was_accepted_than_one_lets_through() -> None:
    """100 in 45 s, windows from 29.9 on: what was accepted 30 s apart says that one began between."""
    evidence = History()
    for first, refused in (
        (1000.0, (1001.3, 1003.2, 1012.9, 1021.5)),
        (1050.2, (1051.5, 1053.7, 1058.9, 1071.8)),
        (1089.8, ()),
        (1119.9, (1144.9, 1150.0, 1155.2)),
    ):
        for number in range(100):
            evidence.accept(first + 0.012 * number, first + 0.012 * number + 0.05)
        for at in refused:
            evidence.reject(at, at + 0.05, Signal.BUSY, None, probe=False)
    evidence.accept(1171.2, 1171.25)
    asked = Candidates(
        evidence.accepted, [reject.sent for reject in evidence.rejects], evidence.closures(), evidence.slack_s
    )
    errors = [each.errors for each in asked.exact() if (each.family, each.n, each.high_s) == (Family.FIXED, 100, 45.0)]
    assert errors == [0]


def test_neighbours_narrow_where_a_window_began() -> None:
    """200 within 31 s of a limit of 100: the window began after the last of the first hundred, before the next."""
    accepted = [*(0.01 * number for number in range(100)), *(30.0 + 0.01 * number for number in range(100))]
    (begin, end), *_ = starts_between(list(zip(accepted, accepted[100:], strict=False)), 45.0, 100)
    assert 0.95 < begin < end < 30.2


def test_a_count_does_not_vary_by_half() -> None:
    """50 to 90 requests are no quota that others use too: they would take more of it than the relay."""
    evidence = History()
    for begun, count in ((1000.0, 50), (1060.0, 90), (1120.0, 55), (1180.0, 70), (1240.0, 88)):
        for number in range(count):
            evidence.accept(begun + 0.01 * number, begun + 0.01 * number + 0.02)
        for late in (2.0, 40.0):
            evidence.reject(begun + late, begun + late + 0.02, Signal.BUSY, None, probe=False)
    asked = Candidates(
        evidence.accepted, [reject.sent for reject in evidence.rejects], evidence.closures(), evidence.slack_s
    )
    varying = [each for each in asked.varying() if each.family is not Family.BUCKET]
    assert varying
    assert all(0 < each.spread <= 0.4 * each.n for each in varying)
