// Failures by cause: a hundred dead letters of one reason are one trouble, and one action acts on all of them.

import { get } from "../api.js";
import { button, operation } from "../actions.js";
import { card, h, link, row, table } from "../dom.js";
import { count, t, time } from "../words.js";
import { address } from "./lists.js";

const KEYS = ["platform", "key", "event", "reason", "code", "since", "until"];

// `state`: dead, or held. Null where there is none.
export async function groups(state, filter, path) {
  const query = Object.fromEntries(Object.entries(filter).filter(([key]) => KEYS.includes(key)));
  const { items, complete } = await get("/v1/dead-letters/groups", { ...query, state });
  if (!items.length) return null;
  const columns = [{ label: t("cause"), wide: true }, { label: t("code"), field: "code" }, { label: t("platform") },
    { label: t("how_many"), n: true, field: "count" }, { label: t("first_seen") }, { label: t("last_seen") }, { label: t("action") }];
  const rows = items.map((each) => groupRow(columns, each, state, query, path));
  return card(t(state === "held" ? "groups_held" : "groups_dead"), table(columns, rows, t("groups_dead")).box,
    complete ? null : h("p", { class: "empty" }, t("groups_part")));
}

function groupRow(columns, group, state, query, path) {
  const filter = { ...query, platform: group.platform, ...(group.reason ? { reason: group.reason } : {}), ...(group.code ? { code: group.code } : {}) };
  const all = { ...filter, state: state === "held" ? "pending" : "dead" };
  const act = (action, label, extra = {}) => button(action, t(`action.${label}…`), () => operation(action, all, extra), { needs: "operate" });
  const acts = state === "held"
    ? [act("resolve", "resolve_delivered", { as: "delivered" }), act("resolve", "resolve_retry", { as: "retry" }), act("resolve", "resolve_dead", { as: "dead" })]
    : [act("retry", "retry"), act("drop", "drop")];
  const list = path === "/ui/dead-letters" && state === "dead" ? filter : all;
  return row(columns, [
    [link(address(state === "held" ? "/ui/callbacks" : path, list), h("span", { "data-field": "reason" }, group.reason || t("no_reason"))), h("small", {}, group.message),
      group.sample ? h("small", {}, link(`/ui/callbacks/${encodeURIComponent(group.sample)}`, t("sample"))) : null],
    group.code || "–", group.platform, h("b", { "data-value": group.count }, count(group.count)), time(group.first_seen), time(group.last_seen),
    h("div", { class: "actions" }, acts),
  ], { "data-group": `${group.platform} ${group.code || group.reason}` });
}
