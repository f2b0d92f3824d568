"""The suite every backend passes: ``class TestMine(Conformance)`` beside a fixture ``harness`` (see ``harness.py``).

Backends that outlive their process also take ``DurabilityConformance``.
"""

from tests.store.accepting import AcceptingConformance
from tests.store.claiming import ClaimingConformance
from tests.store.durability import DurabilityConformance as _Durability
from tests.store.grouping import GroupingConformance
from tests.store.holding import DurableHoldingConformance, HoldingConformance
from tests.store.journals import JournalConformance
from tests.store.keeping import KeepingConformance
from tests.store.lending import DurableLendingConformance, LendingConformance
from tests.store.operating import OperatingConformance
from tests.store.questioning import DurableQuestioningConformance, QuestioningConformance
from tests.store.receipting import DurableReceiptingConformance, ReceiptingConformance
from tests.store.remembering import DurableRememberingConformance, RememberingConformance
from tests.store.resending import ResendingConformance
from tests.store.routing import RoutingConformance
from tests.store.settling import SettlingConformance
from tests.store.sharing import SharingConformance
from tests.store.surveying import SurveyingConformance
from tests.store.timing import TimingConformance
from tests.store.weighing import DurableWeighingConformance, WeighingConformance

__all__ = [
    "Conformance",
    "DurabilityConformance",
]


class Conformance(
    AcceptingConformance,
    RoutingConformance,
    ClaimingConformance,
    GroupingConformance,
    SettlingConformance,
    OperatingConformance,
    KeepingConformance,
    RememberingConformance,
    SurveyingConformance,
    JournalConformance,
    QuestioningConformance,
    ResendingConformance,
    TimingConformance,
    HoldingConformance,
    SharingConformance,
    ReceiptingConformance,
    WeighingConformance,
    LendingConformance,
):
    """What memory and every other backend promise alike."""


class DurabilityConformance(
    _Durability,
    DurableRememberingConformance,
    DurableQuestioningConformance,
    DurableHoldingConformance,
    DurableReceiptingConformance,
    DurableWeighingConformance,
    DurableLendingConformance,
):
    """What backends promise that outlive their process."""
