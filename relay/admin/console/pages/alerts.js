// What fires, what ended lately, who is told; a rule silenced for a while, a target tried.

import { get, post } from "../api.js";
import { button, change, failed } from "../actions.js";
import { card, fill, h, link, row, table } from "../dom.js";
import { watch } from "../live.js";
import { count, many, t, time } from "../words.js";

// Where in the console a rule is acted on; of a platform without a place of its own: its page.
const PLACES = {
  "dead-letters": "/ui/dead-letters", held: "/ui/dead-letters", "store-full": "/ui/dead-letters", "reload-failed": "/ui/config",
  hosts: "/ui/hosts", reconcile: "/ui/reconcile", reveals: "/ui/audit?action=payload.reveal_refused",
};

// A link to where an alert is acted on; null for what has no page.
export function placeOf(alert, label) {
  const page = PLACES[alert.rule];
  const name = encodeURIComponent(alert.platform || "");
  if (page === "/ui/dead-letters" && name) return link(`${page}?platform=${name}`, label);
  if (page) return link(page, label);
  return name && alert.rule !== "token" ? link(`/ui/platforms/${name}`, label) : null; // a token's name is a credential's
}

export async function show(box, { ends, shown, current }) {
  let known = null; // what fires, as the stream tells it
  ends.push(watch(({ alerts }) => {
    const now = JSON.stringify(alerts.map((each) => [each.rule, each.platform, each.group, each.since, each.silenced_until]));
    const news = known !== null && known !== now;
    known = now;
    if (news) draw(box).catch(failed);
  }));
  await draw(box);
  if (current()) shown();
}

async function draw(box) {
  const { items, targets } = await get("/v1/alerts");
  const firing = items.filter((each) => each.status === "firing");
  const ended = items.filter((each) => each.status !== "firing");
  fill(box, h("h1", {}, t("page.alerts")),
    h("p", { class: "sub" }, firing.length ? many("alerts_firing", firing.length) : t("no_alerts")),
    firing.map(alertCard), ended.length ? card(t("alerts_ended"), endedTable(ended)) : null, card(t("targets"), targetTable(targets)));
}

function alertCard(alert) {
  const silence = button("silence", t("action.silence…"), () => change(
    { title: t("action.silence"), text: t("ask.silence", { rule: alert.rule }), fields: [{ name: "for", label: t("silence_for"), placeholder: "2h", required: true }] },
    (given) => post(`/v1/alerts/${encodeURIComponent(alert.rule)}/silence`, given), t("done.silence", { rule: alert.rule })), { needs: "operate" });
  return h("section", { class: "card", "data-alert": alert.rule },
    h("h2", {}, h("span", { class: "state bad" }, alert.rule), " ",
      time(alert.since)),
    h("p", {}, h("b", {}, alert.summary)), h("p", {}, alert.meaning),
    h("p", {}, placeOf(alert, t("act_here")), " ", alert.todo ? [t("next_to_run"), " ", h("code", {}, alert.todo)] : null),
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
