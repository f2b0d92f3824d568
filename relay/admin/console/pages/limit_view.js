// What holds a platform: each window as a strip of slots with what they were used for, and where its limit comes from.

import { button, copy } from "../actions.js";
import { card, h, pairs } from "../dom.js";
import { count, duration, heard, t, time } from "../words.js";
import { amount, windowText } from "./standing.js";

const MOST_CELLS = 200; // a longer window shows shares
const COLOURS = { first: 1, resend: 3, replay: 2, probe: 5, read_back: 5, external: 2, others: 4 };

// How many cells each use gets. One that was there at all gets one at least.
function cells(quota) {
  const all = Math.min(quota.limit, MOST_CELLS);
  const scale = all / Math.max(quota.limit, quota.sent);
  const parts = Object.keys(COLOURS).filter((use) => quota.uses[use]).map((use) => [use, Math.max(1, Math.round(quota.uses[use] * scale))]);
  const made = parts.flatMap(([use, n]) => Array(n).fill(use)).slice(0, all);
  return [...made, ...Array(all - made.length).fill(null)];
}

export function quotaCard(quota) {
  const used = Object.keys(COLOURS).filter((use) => quota.uses[use]);
  const strip = h("div", { class: "strip", role: "img", "aria-label": t("slots_used", { used: amount(quota, quota.used), limit: windowText(quota) }) },
    cells(quota).map((use) => h("i", { class: use && `s${COLOURS[use]}` })));
  const filled = { used: amount(quota, quota.used), limit: amount(quota, quota.limit), unit: quota.unit === "bytes" ? "" : t(`unit.${quota.unit}`) };
  const title = quota.calendar ? t("calendar_title", { period: quota.calendar, ...filled }) : t("window_title", { s: duration(quota.window_s), ...filled });
  return card(title, strip,
    h("div", { class: "legend" },
      used.map((use) => h("span", { "data-slots": use, "data-value": quota.uses[use] },
        h("i", { class: `dot s${COLOURS[use]}` }), t(`use.${use}`), " ", amount(quota, quota.uses[use]))),
      h("span", { "data-slots": "free" }, h("i", { class: "dot" }), t("free"), " ", amount(quota, Math.max(0, quota.limit - quota.used))),
      quota.sent > quota.limit ? h("span", {}, t("sent_above", { n: amount(quota, quota.sent) })) : null,
      h("span", {}, t(`source.${quota.source}`), quota.group ? ` · ${quota.group}` : ""),
      quota.unknown ? h("span", {}, t("slots_not_known")) : null,
      quota.free_at && quota.used >= quota.limit ? h("span", {}, t("next_slot"), " ", time(quota.free_at)) : null));
}

export function limitCard(limit) {
  if (!limit) return card(t("limit_from"), h("p", { class: "empty" }, t("limit_not_learned")));
  const rates = limit.rates.map((each) => each.text).join(", ") || "–";
  if (limit.source === "none") return card(t("limit_from"), h("p", { class: "empty" }, t("limit_none"), " ", heard(limit.evidence.sentence), t("stop")));
  const sure = limit.confidence === null ? "" : ` · ${t("sure", { percent: Math.round(100 * limit.confidence) })}`;
  return card(t("limit_from"), pairs([
    [t(`source.${limit.source}`), h("b", {}, rates), sure, limit.enforced ? "" : ` · ${t("not_enforced")}`],
    limit.since ? [t("since"), time(limit.since)] : null,
    limit.until ? [t("ends"), time(limit.until)] : null,
    limit.reason ? [t("reason"), limit.reason] : null,
    limit.evidence.sentence ? [t("because"), heard(limit.evidence.sentence)] : null,
    limit.trying ? [t("trying"), limit.trying] : null,
    limit.evidence.next_try_at ? [t("next_try"), time(limit.evidence.next_try_at)] : null,
    limit.after ? [t("then_again"), t(`source.${limit.after.source}`), " ", limit.after.rates.map((each) => each.text).join(", ")] : null,
    limit.yaml ? [t("adopt"), h("code", {}, limit.yaml), " ", button("copy-line", t("copy"), () => copy(limit.yaml))] : null,
  ]));
}
