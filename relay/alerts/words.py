"""What an alert says to people, in their language: what it is, what it means for whom, and the command to run next.

Made of the rule's own words, names from the configuration and numbers. Of what a platform answered only the code stands
in one that a rule met, as in the log: no other text, which may repeat what was sent.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from relay.alerts.rules import Values
from relay.config.schema.alerts import Language


class Sentences(NamedTuple):
    """What is so, what that means for whom, and what to run next."""

    summary: str
    meaning: str
    todo: str


_EN: Final = {
    "late": Sentences(
        "{about} is late: its oldest callback has been due for {age}, and nothing was delivered in the last minute",
        "Buyers and shops at {about} see states from {age} ago; {pending:callback waits|callbacks wait} "
        "(state: {state}).",
        "relay status",
    ),
    "expiring": Sentences(
        "{about} will not drain in time: {pending:callback waits|callbacks wait}, the oldest for {age}, and each lives "
        "{expires}",
        "At this pace some of them expire before they are delivered, and their orders keep an old state.",
        "relay limit {about}",
    ),
    "objective": Sentences(
        "{about} is late more often than it may be: {ratio} of the last hour within {within}, and {share} is wanted",
        "Orders show an old state for longer than was promised; {remaining} is left of what may be late in 24 h.",
        "relay status",
    ),
    "dead-letters": Sentences(
        "{about} has {size:more dead letter|more dead letters}: {kind}",
        "These orders keep an old state at {about} until a person retries or drops them; {dead} in all.",
        "relay dead groups --platform {about}",
    ),
    "held": Sentences(
        "{about} holds {held:callback|callbacks} for a person",
        "Its answers could not be read, so these may or may not have been applied; later ones of the same orders wait.",
        "relay dead groups --state held --platform {about}",
    ),
    "sealed": Sentences(
        "{about} has {unopened:sealed callback that does|sealed callbacks that do} not open",
        "The file was changed, or another key sealed them. They are never sent; later ones of the same orders wait.",
        "relay keys status",
    ),
    "broken": Sentences(
        "{about} is down or refuses everything",
        "Nothing is lost: {pending:callback waits and goes|callbacks wait and go} without you when it answers again.",
        "relay status",
    ),
    "limit-learned": Sentences(
        "{about} has a limit that nobody announced; it is enforced from now on",
        "Callbacks to it wait for slots. Ask the platform, or adopt it in the configuration: {adopt}",
        "relay limit {about}",
    ),
    "store-full": Sentences(
        "The store is {percent} % full",
        "When it is full the order center gets 503 and must repeat its posts.",
        "relay doctor",
    ),
    "store-failed": Sentences(
        "The store cannot commit",
        "The order center gets 503 for every post, and nothing new is sent. What was accepted is kept.",
        "relay doctor",
    ),
    "store-damaged": Sentences(
        "The store's file is damaged",
        "What lies on a damaged page is not sent. Restore a backup, or take what can be read, with the relay down.",
        "relay doctor --salvage",
    ),
    "disk-full": Sentences(
        "The disk of the store has {free} left",
        "When it is full nothing can be accepted or settled.",
        "relay doctor",
    ),
    "hosts": Sentences(
        "Of the hosts that share the store: {about} is {what}",
        "gone: others send for its platforms. mismatch: its file is not the one in force, so it only accepts. "
        "unowned: no host sends for this platform.",
        "relay hosts",
    ),
    "reload-failed": Sentences(
        "The last reload was refused: problems in the configuration ({problems})",
        "The configuration before it is still in force; what was changed in the file does not hold.",
        "relay config check",
    ),
    "clock-step": Sentences(
        "The wall clock was set: it is {direction}{step} from where it was",
        "Limits and waits hold on. Signatures, logs and times on other machines may be off.",
        "timedatectl",
    ),
    "unaccounted": Sentences(
        "The ledger does not add up: {unaccounted:callback is|callbacks are} unaccounted for",
        "This must never be. Keep the store as it is and recount it.",
        "relay doctor",
    ),
    "certificate": Sentences(
        "A TLS certificate of {about} ({whose}) ends in {left}",
        "From then on no connection comes about: its callbacks wait.",
        "relay config check --probe",
    ),
    "token": Sentences(
        "There is no token to be had for {about}",
        "Platforms that use it get nothing until its endpoint hands one out; their callbacks wait.",
        "relay status",
    ),
    "acceptors": Sentences(
        "Processes that take posts in end again and again, or do not answer",
        "The daemon takes posts in itself, more slowly. The log says acceptor_ended with the code.",
        "relay doctor",
    ),
    "reveals": Sentences(
        "{about} wanted to see more payloads than privacy.reveals allows",
        "What was seen stands in the audit, with the reasons given; the rest was refused.",
        "relay audit ls --who {about}",
    ),
    "reconcile": Sentences(
        "{about}: {en}",
        "What differs, since when and what to do stands in the report and under /ui/reconcile.",
        "relay reconcile {about}{verify}",
    ),
    "audit-head": Sentences(
        "The audit has {count} records; the newest is {hash}",
        "Keep this where nobody of this host can change it: it proves every record up to then.",
        "relay audit verify --head {hash}",
    ),
    "drill": Sentences(
        "This is a drill: alerts reach you here",
        "Nothing is wrong. Somebody ran `relay alert test`.",
        "relay alerts",
    ),
}
_ZH: Final = {
    "late": Sentences(
        "{about} 延迟：最早的回调已到期 {age}，最近一分钟什么都没有送达",
        "{about} 的买家和店铺看到的是 {age} 之前的状态；{pending} 条回调在等待（状态：{state}）。",
        "relay status",
    ),
    "expiring": Sentences(
        "{about} 来不及送完：{pending} 条在等待，最早的已等 {age}，有效期 {expires}",
        "按现在的速度，部分回调会在送达前过期，对应订单将停留在旧状态。",
        "relay limit {about}",
    ),
    "objective": Sentences(
        "{about} 未达目标：最近 1 小时有 {ratio} 在 {within} 内送达，目标为 {share}",
        "订单显示旧状态的时间超过了承诺；24 小时内允许的超时余量还剩 {remaining}。",
        "relay status",
    ),
    "dead-letters": Sentences(
        "{about} 新增 {size} 条死信：{kind}",
        "这些订单在 {about} 停留在旧状态，直到有人重试或丢弃；该平台共有 {dead} 条死信。",
        "relay dead groups --platform {about}",
    ),
    "held": Sentences(
        "{about} 有 {held} 条回调等待人工确认",
        "平台的回答无法识别，可能已生效也可能没有；同一订单的后续回调也在等待。",
        "relay dead groups --state held --platform {about}",
    ),
    "sealed": Sentences(
        "{about} 有 {unopened} 条加密的回调无法打开",
        "文件被改动过，或它们是用另一把密钥加密的。它们不会发出；同一订单之后的回调在等待。",
        "relay keys status",
    ),
    "broken": Sentences(
        "{about} 不可用或拒绝一切请求",
        "没有丢失：{pending} 条回调在等待，平台恢复后自动送出。",
        "relay status",
    ),
    "limit-learned": Sentences(
        "{about} 存在未公布的限额，已开始遵守",
        "发往它的回调需要排队。请向平台确认，或写入配置：{adopt}",
        "relay limit {about}",
    ),
    "store-full": Sentences("存储已用 {percent} %", "写满后订单中心的请求会得到 503，需要重发。", "relay doctor"),
    "store-failed": Sentences(
        "存储无法提交", "订单中心的每个请求都得到 503，也不再发送新的回调。已接收的都还在。", "relay doctor"
    ),
    "store-damaged": Sentences(
        "存储文件已损坏",
        "损坏页上的回调不会发出。停下中继，恢复备份，或取出还能读的部分。",
        "relay doctor --salvage",
    ),
    "disk-full": Sentences("存储所在磁盘只剩 {free}", "写满后无法接收，也无法结算。", "relay doctor"),
    "hosts": Sentences(
        "共用存储的主机有问题：{about}（{what}）",
        "gone：其平台由其他主机接管发送；mismatch：其配置与生效的不一致，只接收不发送；unowned：没有主机为该平台发送。",
        "relay hosts",
    ),
    "reload-failed": Sentences(
        "最近一次重载被拒绝：配置有 {problems} 处问题",
        "仍在使用之前的配置；文件中的修改没有生效。",
        "relay config check",
    ),
    "clock-step": Sentences(
        "系统时钟被调整：偏移 {direction}{step}",
        "限额与等待不受影响；签名、日志以及与其他机器对照的时间可能不准。",
        "timedatectl",
    ),
    "unaccounted": Sentences(
        "账目对不上：有 {unaccounted} 个回调无着落", "这不应该发生。请保留存储原样并重新清点。", "relay doctor"
    ),
    "certificate": Sentences(
        "{about} 的 TLS 证书（{whose}）将在 {left} 后到期",
        "到期后无法建立连接，它的回调只能等待。",
        "relay config check --probe",
    ),
    "token": Sentences("{about} 取不到令牌", "使用它的平台在取到令牌之前收不到任何回调；回调在等待。", "relay status"),
    "acceptors": Sentences(
        "接收提交的进程反复结束，或没有应答",
        "守护进程自己接收提交，会慢一些。日志中的 acceptor_ended 写着退出码。",
        "relay doctor",
    ),
    "reveals": Sentences(
        "{about} 查看原始内容的次数超过 privacy.reveals 的上限",
        "已查看的内容及理由都记在审计中；其余请求已被拒绝。",
        "relay audit ls --who {about}",
    ),
    "reconcile": Sentences(
        "{about}：{zh}",
        "差异明细、首次出现时间与处理建议见对账报告和 /ui/reconcile。",
        "relay reconcile {about}{verify}",
    ),
    "audit-head": Sentences(
        "审计共 {count} 条记录，最新一条为 {hash}",
        "请保存在本机人员无法修改的地方：它可以证明此前的每一条记录。",
        "relay audit verify --head {hash}",
    ),
    "drill": Sentences("这是一次演练：告警可以送达这里", "没有故障。有人运行了 `relay alert test`。", "relay alerts"),
}
_MOSTLY: Final = {"en": " ({most} of them)", "zh-CN": "（其中 {most} 条）"}
_FULL_IN: Final = {"en": "; at this rate it is full in {left}", "zh-CN": "，按现在的速度 {left} 后写满"}
_ALL: Final[Mapping[Language, Mapping[str, Sentences]]] = {"en": _EN, "zh-CN": _ZH}
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class _Counted(int):
    """A number in a sentence. ``{held:callback|callbacks}`` becomes ``1 callback``, or ``1,200 callbacks``."""

    def __format__(self, words: str) -> str:
        one, _, many = words.partition("|")
        return f"{int(self):,} {one if self == 1 else many}".rstrip()


def sentences(rule: str, about: str, values: Values, size: int, language: Language) -> Sentences:
    """Return what an alert says; ``values`` are its trouble's, ``size`` is how many its group has."""
    written: dict[str, str | _Counted] = {
        name.rpartition("_")[0] or name: _shown(name, value) for name, value in values.items()
    }
    written = {"kind": str(values.get("group", "")), **written, "about": about, "size": _Counted(size)}
    said = _ALL[language][rule]
    if rule == "dead-letters" and values.get("most", size) != size:
        said = said._replace(summary=said.summary + _MOSTLY[language])
    if rule == "store-full" and "left" in written:
        said = said._replace(summary=said.summary + _FULL_IN[language])
    return Sentences(*(text.format_map(written) for text in said))


def _shown(name: str, value: float | str) -> "str | _Counted":
    if isinstance(value, str):
        return value
    if name.endswith("_s"):
        return span(value)
    if name.endswith("_bytes"):
        return f"{value / 2**20:.0f} MiB"
    return _Counted(value) if isinstance(value, int) else f"{value:,}"


def span(seconds: float) -> str:
    """Return a time span in at most two units: ``45s``, ``9m11s``, ``3h05m``, ``2d``."""
    whole = round(seconds)
    for (unit_s, unit), (next_s, next_unit) in pairwise(_UNITS):
        if whole >= unit_s:
            rest = whole % unit_s // next_s
            return f"{whole // unit_s}{unit}{rest:02d}{next_unit}" if rest else f"{whole // unit_s}{unit}"
    return f"{whole}s"


def local_time(wall: float) -> str:
    """Return a time since the epoch in this machine's zone, which it names: ``2026-11-29 10:41 +08:00``."""
    text = datetime.fromtimestamp(wall).astimezone().isoformat(sep=" ", timespec="minutes")
    return f"{text[:16]} {text[16:]}"
