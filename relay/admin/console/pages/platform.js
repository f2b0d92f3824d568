// One platform: what holds it, its figures and charts, and what may be done.

import { get, post } from "../api.js";
import { button, change } from "../actions.js";
import { card, fill, h, link, pairs, put, redrawn } from "../dom.js";
import { charts } from "../charts.js";
import { watch } from "../live.js";
import { count, duration, heard, many, rate, share, t, time } from "../words.js";
import { limitCard, quotaCard } from "./limit_view.js";
import { whatIf } from "./what_if.js";
import { drainText, stateClass, stateWord, untilWord } from "./standing.js";

const SOON_DAYS = 14; // as the alert rule

export async function show(box, { params: [name], ends, shown, current }) {
  const path = `/v1/platforms/${encodeURIComponent(name)}`;
  const first = await get(path);
  const badge = h("span", { "data-field": "state" });
  const sentence = h("p", { class: "sub", "data-field": "reason" });
  const boxes = Array.from({ length: 5 }, () => h("div"));
  const [windows, figures, limit, groups, failure] = boxes.map(redrawn);
  const words = redrawn(sentence);
  fill(box, h("h1", {}, name, " ", badge), sentence, actions(name, path), boxes[0], h("div", { class: "grid" }, boxes.slice(1)),
    first.removed ? null : whatIf(name, path), charts(name, ends));
  const update = (platform) => {
    badge.className = stateClass(platform.state);
    put(badge, stateWord(platform.state));
    words([platform.reason, platform.since, platform.until, platform.pending, platform.in_per_s, platform.out_per_s, platform.growing], () => sentenceOf(platform));
    windows(platform.quotas, () => platform.quotas.map(quotaCard));
    const { quotas: _, learned_limit: learned, last_error: error, stopped_groups: stopped, paused_groups: paused, oldest_due_seconds: oldest, ...rest } = platform;
    figures([rest, Math.floor(oldest ?? -1)], () => numbers(platform));
    const { evidence, ...told } = learned || { evidence: {} };
    limit([told, evidence.sentence, evidence.next_try_at], () => limitCard(learned));
    groups([stopped, paused, platform.keys_held], () => groupsCard(stopped, paused, platform.keys_held));
    failure(error, () => lastError(error));
  };
  if (!current()) return;
  update(first);
  shown();
  ends.push(watch(({ platforms }) => {
    const found = platforms.find((each) => each.name === name);
    if (found) update(found);
  }, { atOnce: false }));
}

function sentenceOf(platform) {
  const parts = [platform.reason ? `${heard(platform.reason)}${t("stop")}` : ""];
  if (platform.until) parts.push(untilWord(platform.state), " ", time(platform.until), t("stop"));
  parts.push(t("platform_sentence", { n: count(platform.pending), out: rate(platform.out_per_s), in: rate(platform.in_per_s) }),
    platform.growing ? ` ${t("backlog_grows")}` : "");
  return parts;
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

// What stands still while the rest of the platform goes on.
function groupsCard({ count: n, items }, paused, keysHeld) {
  const lines = (groups) => pairs(groups.map((each) => [each.group, heard(each.reason), each.until ? [" ", t("until_then"), " ", time(each.until)] : null]));
  return [n ? card(many("stopped_groups", n), lines(items)) : null, paused.length ? card(many("paused_groups", paused.length), lines(paused)) : null,
    keysHeld ? card(null, many("keys_held", keysHeld)) : null];
}

function lastError(error) {
  if (!error) return null;
  if (typeof error === "string") return card(t("last_error"), h("p", {}, error));
  return card(t("last_error"), h("p", {}, time(error.at), " ", h("b", {}, [error.status, error.outcome].filter(Boolean).join(" ")), " ", error.reason),
    error.excerpt ? h("pre", { tabindex: "0" }, error.excerpt) : null);
}
