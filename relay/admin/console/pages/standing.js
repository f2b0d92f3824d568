// How a platform stands, in the parts that several pages show.

import { h } from "../dom.js";
import { count, duration, has, t, time } from "../words.js";

const SHAPE = { ok: "ok", limited: "wait", throttled: "wait", paused: "idle", broken: "bad" };
const CALLBACK = { pending: "wait", delivered: "ok", dead: "bad", expired: "bad", superseded: "idle" };

export const stateBadge = (state) => h("span", { class: `state ${SHAPE[state] || CALLBACK[state] || "idle"}` }, stateWord(state));
export const stateWord = (state) => (has(`state.${state}`) ? t(`state.${state}`) : state);
export const stateClass = (state) => `state ${SHAPE[state] || "idle"}`;

// The window that is used up most decides, as it does for the platform.
export function fullest(platform) {
  const whole = platform.quotas.filter((each) => !each.group);
  return whole.sort((a, b) => b.used / b.limit - a.used / a.limit)[0] || null;
}

export const windowText = (quota) => `${count(quota.limit)}${quota.unit === "requests" ? "" : ` ${quota.unit}`}/${quota.calendar || windowLength(quota.window_s)}`;

function windowLength(seconds) {
  const named = { 1: "s", 60: "min", 3600: "h", 86400: "d" }[seconds];
  return named || `${seconds}s`;
}

export function usedText(platform) {
  const quota = fullest(platform);
  return quota ? t("used_of", { used: count(quota.used), limit: windowText(quota) }) : "–";
}

export function drainText(platform) {
  if (platform.growing) return t("growing");
  if (platform.drain_eta_seconds === null) return platform.state === "paused" || platform.state === "broken" ? t("after_it_goes_on") : "–";
  return platform.drain_eta_seconds < 1 ? t("drained_now") : duration(platform.drain_eta_seconds);
}

// "It waits for ... until ...", in the reader's language.
export function waitingSentence(waiting) {
  const limit = waiting.limit ? `${waiting.limit.rate} (${t(`source.${waiting.limit.source}`)})` : "";
  const key = `waits.${waiting.for}`;
  const parts = [has(key) ? t(key, { limit, group: waiting.group || "" }) : waiting.for];
  if (waiting.group) parts.push(" ", t("of_group", { group: waiting.group }));
  if (waiting.reason) parts.push(": ", waiting.reason);
  parts.push(". ");
  if (waiting.until) parts.push(t("until_then"), " ", time(waiting.until), ". ");
  return parts;
}
