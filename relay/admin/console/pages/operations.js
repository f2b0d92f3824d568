// Operations under way: what was asked, how far it is, what was skipped and why.

import { get } from "../api.js";
import { fill, h, row, table } from "../dom.js";
import { count, has, t, time } from "../words.js";

const EVERY_MS = 2000;

export async function show(box, { ends, shown, current }) {
  const list = h("section", { class: "card" });
  fill(box, h("h1", {}, t("page.operations")), h("p", { class: "sub" }, t("operations_text")), list);
  let timer = 0;
  ends.push(() => clearTimeout(timer));
  const update = async () => {
    if (!document.hidden) fillList(list, (await get("/v1/operations")).items);
    again();
  };
  const again = () => { if (current()) timer = setTimeout(() => update().catch(again), EVERY_MS); }; // it is tried again
  await update();
  shown();
}

function fillList(list, items) {
  if (!items.length) { fill(list, h("p", { class: "empty" }, t("no_operations"))); return; }
  const columns = [{ label: "ID" }, { label: t("action"), wide: true }, { label: t("state") }, { label: t("matched"), n: true },
    { label: t("done"), n: true }, { label: t("since") }];
  fill(list, table(columns, items.map((each) => row(columns, [
    String(each.id), [h("b", {}, has(`action.${each.action}`) ? t(`action.${each.action}`) : each.action), h("small", {}, [each.options.who, each.options.reason, each.filter.platform].filter(Boolean).join(" · "))],
    h("span", { class: `state ${each.state === "done" ? "ok" : "wait"}` }, t(`operation.${each.state}`)), count(each.matched), [count(each.done), Object.entries(each.skipped).map(([why, n]) => h("small", {}, `${why} ${count(n)}`))], each.started_at ? time(each.started_at) : "–",
  ], { "data-operation": each.id })), t("page.operations")).box);
}
