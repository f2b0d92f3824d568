// Who changed or saw what, and why: newest first, by filter.

import { get } from "../api.js";
import { failed } from "../actions.js";
import { fill, h, row, table } from "../dom.js";
import { t, time } from "../words.js";
import { filterOf, searchForm } from "./lists.js";

const KEYS = ["who", "action", "target", "since", "until"];

export async function show(box, { query, shown }) {
  const filter = filterOf(query, KEYS);
  const columns = [{ label: t("when") }, { label: t("filter.who") }, { label: t("filter.action"), wide: true }, { label: t("filter.target") }, { label: t("reason") }];
  const { box: list, body } = table(columns, [], t("page.audit"));
  const more = h("button", { type: "button", "data-action": "more", onclick: () => next().catch(failed) }, t("more"));
  let cursor = null;
  const next = async () => {
    const page = await get("/v1/audit", cursor ? { ...filter, cursor } : filter);
    body.append(...page.items.map((each) => row(columns, [time(each.at), [each.who, h("small", {}, `${each.role} · ${each.from}`)],
      [h("b", {}, each.action), Object.keys(each.details).length ? h("small", { class: "mono" }, JSON.stringify(each.details)) : null], each.target, each.reason || "–"],
    { "data-audit": each.id })));
    cursor = page.next;
    more.hidden = cursor === null;
  };
  await next();
  fill(box, h("h1", {}, t("page.audit")), h("p", { class: "sub" }, t("audit_text")), searchForm("/ui/audit", filter, KEYS, []),
    h("section", { class: "card" }, list, more));
  shown();
}
