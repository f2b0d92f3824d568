// What could not be delivered: by filter, retried or dropped in one action.

import { button, operation } from "../actions.js";
import { fill, h } from "../dom.js";
import { t } from "../words.js";
import { columnsOf, filterOf, platformNames, results, searchForm } from "./lists.js";

const KEYS = ["platform", "key", "event", "reason", "since", "until", "ids"];

export async function show(box, { query, shown }) {
  const filter = filterOf(query, KEYS);
  const [known, { counted, box: list }] = await Promise.all([platformNames(), results("/v1/dead-letters", filter, columnsOf())]);
  const act = (action) => button(action, t(`action.${action}…`), () => operation(action, { ...filter, state: "dead" }), { needs: "operate" });
  fill(box, h("h1", {}, t("page.dead-letters")), counted, searchForm("/ui/dead-letters", filter, KEYS, known),
    h("div", { class: "actions" }, act("retry"), act("drop")), list);
  shown();
}
