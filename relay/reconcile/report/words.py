"""The words of the report, in Chinese and English."""

from typing import NamedTuple


class Both(NamedTuple):
    """A text in both languages."""

    zh: str
    en: str


KINDS = {
    "missing": Both("平台缺单", "missing"),
    "unknown": Both("平台多单", "unknown"),
    "behind": Both("状态落后", "behind"),
    "ahead": Both("状态超前", "ahead"),
    "conflict": Both("状态冲突", "conflict"),
    "different": Both("内容不一致", "different"),
    "duplicate": Both("重复", "duplicate"),
    "stuck": Both("滞留", "stuck"),
    "unsettled": Both("存疑", "unsettled"),
    "unreadable": Both("无法解析", "unreadable"),
}
MEANS = {
    "missing": Both("订单中心有, 平台没有", "the order center has it, the platform does not"),
    "unknown": Both("平台有, 订单中心没有", "the platform has it, the order center does not"),
    "behind": Both("平台显示的状态更早", "the platform shows an earlier status"),
    "ahead": Both("平台显示的状态更晚", "the platform shows a later status"),
    "conflict": Both("两边状态不在同一条线上", "statuses that do not lie on one line"),
    "different": Both("状态相同, 其他值不同", "same status, another value"),
    "duplicate": Both("同一边出现两次", "twice on one side"),
    "stuck": Both("在一个状态停留过久", "too long in one status"),
    "unsettled": Both("刚刚变化, 下次再看", "changed just now; the next run looks again"),
    "unreadable": Both("该行无法读取, 或状态未知", "a line that cannot be read, or a status that nobody knows"),
}
PROPOSALS = {
    "post": Both("由订单中心补推", "let the order center post it"),
    "wait": Both("在途, 等待", "on its way; wait"),
    "resolve": Both("待人工确认结果", "held: say what became of it (relay resolve)"),
    "retry": Both("重试死信", "send the dead letter again"),
    "resend": Both("已送达未生效, 重发", "delivered and not applied: send it again"),
    "ask": Both("需人工核对", "a person must look"),
    "next run": Both("下次对账再看", "the next run looks again"),
}
RESULTS = {
    "repaired": Both("已修复", "repaired"),
    "still": Both("仍不一致", "still not repaired"),
    "changed": Both("差异有变化, 或已不再列出", "differs in another way, or is no longer listed"),
}
LABELS = {
    "title": Both("对账报告", "Reconciliation"),
    "complete": Both("两边均已读完", "both sides were read whole"),
    "incomplete": Both("未读完: 不据此判定缺单", "a side was not read whole: nothing is called missing from it"),
    "agree": Both("一致", "agree"),
    "orders": Both("单", "orders"),
    "read": Both("读取行数", "rows read"),
    "order_center": Both("订单中心", "order center"),
    "platform": Both("平台", "platform"),
    "relay": Both("中继", "relay"),
    "trend": Both("最近 30 次", "the last 30 runs"),
    "key": Both("订单", "order"),
    "why": Both("原因", "why"),
    "do": Both("怎么办", "what to do"),
    "since": Both("首次出现", "first seen"),
    "first": Both("仅列前 {shown} 条, 其余见 differences.csv", "the first {shown}; all of them are in differences.csv"),
    "problems": Both("问题", "problems"),
    "repairs": Both("修复", "repairs"),
    "verified": Both("此前 {run} 修复的结果", "what became of the repairs of {run}"),
    "sent": Both(
        "已重发 {sent}, 平台已有 {applied}, 共 {proposed}", "{sent} sent again, {applied} there by now, of {proposed}"
    ),
    "nothing": Both("没有差异", "nothing differs"),
}
