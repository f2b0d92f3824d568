// One platform: what holds it, its figures and charts, and what may be done.

import { get, post } from "../api.js";
import { button, change } from "../actions.js";
import { card, fill, h, link, pairs, put } from "../dom.js";
import { charts } from "../charts.js";
import { watch } from "../live.js";
import { count, duration, rate, share, t, time } from "../words.js";
import { limitCard, quotaCard } from "./limit_view.js";
import { whatIf } from "./what_if.js";
import { drainText, stateClass, stateWord } from "./standing.js";

const SOON_DAYS = 14; // as the alert rule

export async function show(box, { params: [name], ends, shown, current }) {
  const path = `/v1/platforms/${encodeURIComponent(name)}`;
  const first = await get(path);
  const badge = h("span", { "data-field": "state" });
  const sentence = h("p", { class: "sub", "data-field": "reason" });
  const windows = h("div");
  const facts = h("div", { class: "grid" });
  fill(box, h("h1", {}, name, " ", badge), sentence, actions(name, path), windows, facts,
    first.removed ? null : whatIf(name, path), charts(name, ends));
  let told = "";
  const update = (platform) => {
    badge.className = stateClass(platform.state);
    put(badge, stateWord(platform.state));
    fillSentence(sentence, platform);
    const { oldest_due_seconds: _, ...rest } = platform;
    if (told === JSON.stringify(rest)) return;
    told = JSON.stringify(rest);
    fill(windows, platform.quotas.map(quotaCard));
    fill(facts, numbers(platform), limitCard(platform.learned_limit), stopped(platform), lastError(platform.last_error));
  };
  if (!current()) return;
  update(first);
  shown();
  ends.push(watch(({ platforms }) => {
    const found = platforms.find((each) => each.name === name);
    if (found) update(found);
  }, { atOnce: false }));
}

function fillSentence(sentence, platform) {
  const parts = [platform.reason ? `${platform.reason}. ` : ""];
  if (platform.until) parts.push(t("until_then"), " ", time(platform.until), ". ");
  parts.push(t("platform_sentence", { n: count(platform.pending), out: rate(platform.out_per_s), in: rate(platform.in_per_s) }),
    platform.growing ? ` ${t("backlog_grows")}` : "");
  fill(sentence, parts);
}

function actions(name, path) {
  const act = (action, body = (given) => given, question = {}, deed = action) =>
    button(action, t(`action.${action}…`), () => change(
      { title: t(`action.${action}`), text: t(`ask.${action}_platform`, { name }), ...question },
      (given) => post(`${path}/${deed}`, body(given)), t(`done.${action}`, { name })), { needs: "operate" });
  return h("div", { class: "actions" }, act("pause"), act("resume"), act("flush"),
    act("limit", (given) => Object.fromEntries(Object.entries(given).filter(([, value]) => value)), { fields: [
      { name: "rate", label: t("limit_rate"), placeholder: "80/min", required: true }, { name: "for", label: t("limit_for"), placeholder: "2h" }] }),
    act("forget", (given) => ({ ...given, forget: true }), {}, "limit"),
    link(`/ui/callbacks?platform=${encodeURIComponent(name)}&state=pending`, t("state.pending")),
    link(`/ui/dead-letters?platform=${encodeURIComponent(name)}`, t("page.dead-letters")));
}

function numbers(platform) {
  return card(t("figures"), pairs([
    [t("column.pending"), count(platform.pending)], [t("column.held"), count(platform.held)], [t("column.dead"), count(platform.dead)],
    [t("column.oldest"), platform.oldest_due_seconds === null ? "–" : duration(platform.oldest_due_seconds)],
    [t("column.drain"), drainText(platform)],
    [t("requests_under_way"), `${count(platform.requests_in_flight)} / ${count(platform.requests_allowed)}`],
    platform.since ? [t("since"), time(platform.since)] : null,
    ...objective(platform.objective),
    platform.certificate ? certificate(platform.certificate) : null,
  ]));
}

function objective(kept) {
  if (!kept) return [];
  const value = h("span", { "data-field": "objective", "data-value": kept.ratio_1h },
    t("objective_in_time", { hour: share(kept.ratio_1h), day: share(kept.ratio_24h) }));
  const late = kept.burns === null ? kept.ratio_1h < 1 : kept.burns >= 1;
  return [[t("objective", { within: duration(kept.within_seconds), share: share(kept.share) }), late ? h("b", { class: "state bad" }, value) : value],
    [t("objective_left"), t("objective_in_time", { hour: share(kept.remaining_1h), day: share(kept.remaining_24h) })],
    kept.overdue ? [t("objective_overdue"), count(kept.overdue)] : null];
}

function certificate({ whose, ends_at: endsAt, days_left: days }) {
  const left = h("span", { "data-field": "certificate", "data-value": days }, t("days_left", { n: count(days) }), ", ", time(endsAt));
  return [t(`certificate.${whose}`), days < SOON_DAYS ? h("b", { class: "state bad" }, left) : left];
}

function stopped(platform) {
  const { count: n, items } = platform.stopped_groups;
  if (!n) return null;
  return card(t("stopped_groups", { n: count(n) }), pairs(items.map((each) => [each.group, each.reason, " ", t("until_then"), " ", time(each.until)])));
}

function lastError(error) {
  if (!error) return null;
  if (typeof error === "string") return card(t("last_error"), h("p", {}, error));
  return card(t("last_error"), h("p", {}, time(error.at), " ", h("b", {}, [error.status, error.outcome].filter(Boolean).join(" ")), " ", error.reason),
    error.excerpt ? h("pre", { tabindex: "0" }, error.excerpt) : null);
}
