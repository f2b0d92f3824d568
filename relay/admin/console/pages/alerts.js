// What fires, what ended lately, who is told; a rule silenced for a while, a target tried.

import { get, post } from "../api.js";
import { button, change } from "../actions.js";
import { card, fill, h, link, row, table } from "../dom.js";
import { count, t, time } from "../words.js";

export async function show(box, { shown }) {
  const { items, targets } = await get("/v1/alerts");
  const firing = items.filter((each) => each.status === "firing");
  const ended = items.filter((each) => each.status !== "firing");
  fill(box, h("h1", {}, t("page.alerts")),
    h("p", { class: "sub" }, firing.length ? t("alerts_firing", { n: count(firing.length) }) : t("no_alerts")),
    firing.map(alertCard), ended.length ? card(t("alerts_ended"), endedTable(ended)) : null, card(t("targets"), targetTable(targets)));
  shown();
}

function alertCard(alert) {
  const silence = button("silence", t("action.silence…"), () => change(
    { title: t("action.silence"), text: t("ask.silence", { rule: alert.rule }), fields: [{ name: "for", label: t("silence_for"), placeholder: "2h", required: true }] },
    (given) => post(`/v1/alerts/${encodeURIComponent(alert.rule)}/silence`, given), t("done.silence", { rule: alert.rule })), { needs: "operate" });
  return h("section", { class: "card", "data-alert": alert.rule },
    h("h2", {}, h("span", { class: "state bad" }, alert.rule), " ",
      alert.platform ? link(`/ui/platforms/${encodeURIComponent(alert.platform)}`, alert.platform) : null, " ", t("since"), " ", time(alert.since)),
    h("p", {}, h("b", {}, alert.summary)), h("p", {}, alert.meaning), alert.todo ? h("p", {}, h("code", {}, alert.todo)) : null,
    alert.silenced_until ? h("p", {}, t("silenced"), " ", time(alert.silenced_until)) : null, h("div", { class: "actions" }, silence));
}

function endedTable(items) {
  const columns = [{ label: t("rule"), wide: true }, { label: t("platform") }, { label: t("since") }, { label: t("ends") }];
  return table(columns, items.map((each) => row(columns, [[h("b", {}, each.rule), h("small", {}, each.summary)], each.platform || "–", time(each.since),
    time(each.until)], { "data-alert": each.rule })), t("alerts_ended")).box;
}

function targetTable(targets) {
  if (!targets.length) return h("p", { class: "empty" }, t("no_targets"));
  const columns = [{ label: t("target"), wide: true }, { label: t("last_message") }, { label: t("waiting_messages"), n: true }, { label: t("action") }];
  return table(columns, targets.map((each) => row(columns, [
    [h("b", {}, each.name), h("small", {}, each.kind)], each.last ? [each.last.result, " ", time(each.last.at), h("small", {}, each.last.reason)] : "–", count(each.waiting),
    button("drill", t("action.drill…"), () => change(
      { title: t("action.drill"), text: t("ask.drill", { name: each.name }) },
      (given) => post(`/v1/alert-targets/${encodeURIComponent(each.name)}/test`, given),
      (told) => (told.arrived ? t("drill_arrived", { name: each.name }) : t("drill_lost", { name: each.name, why: told.reason || told.answer }))), { needs: "operate" }),
  ], { "data-target": each.name })), t("targets")).box;
}
