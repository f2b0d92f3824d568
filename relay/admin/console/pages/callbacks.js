// Callbacks by filter, and what may be done to all that match.

import { button, operation } from "../actions.js";
import { fill, h } from "../dom.js";
import { t } from "../words.js";
import { columnsOf, filterOf, platformNames, results, searchForm } from "./lists.js";

const KEYS = ["platform", "state", "key", "event", "reason", "code", "since", "until", "ids"];

export async function show(box, { query, shown }) {
  const filter = filterOf(query);
  const names = platformNames();
  const found = results("/v1/callbacks", filter, columnsOf());
  const why = Object.keys(filter).length ? "" : t("needs_filter");
  const [known, { counted, box: list }] = await Promise.all([names, found]);
  const act = (action, extra = {}, label = action) => button(action, t(`action.${label}…`), () => operation(action, filter, extra), { needs: "operate", why });
  fill(box, h("h1", {}, t("page.callbacks")), counted, searchForm("/ui/callbacks", filter, KEYS, known),
    h("div", { class: "actions" }, act("retry"), act("drop"),
      act("resolve", { as: "delivered" }, "resolve_delivered")), list);
  shown();
}
