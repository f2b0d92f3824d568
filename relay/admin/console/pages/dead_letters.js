// What could not be delivered: by filter, retried or dropped in one action.

import { button, operation } from "../actions.js";
import { fill, h } from "../dom.js";
import { t } from "../words.js";
import { groups } from "./groups.js";
import { columnsOf, filterOf, platformNames, results, searchForm } from "./lists.js";

const KEYS = ["platform", "key", "event", "reason", "code", "since", "until", "ids"];

export async function show(box, { query, shown }) {
  const filter = filterOf(query, KEYS);
  const [known, { counted, box: list }, dead, held] = await Promise.all([platformNames(), results("/v1/dead-letters", filter, columnsOf()),
    groups("dead", filter, "/ui/dead-letters"), groups("held", filter, "/ui/dead-letters")]);
  const act = (action) => button(action, t(`action.${action}…`), () => operation(action, { ...filter, state: "dead" }), { needs: "operate" });
  fill(box, h("h1", {}, t("page.dead-letters")), counted, searchForm("/ui/dead-letters", filter, KEYS, known),
    h("div", { class: "actions" }, act("retry"), act("drop")), held, dead, list);
  shown();
}
