// How a platform stands, in the parts that several pages show.

import { h } from "../dom.js";
import { bytes, count, duration, has, heard, t, time } from "../words.js";

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

// How much of what a window counts.
export const amount = (quota, n) => (quota.unit === "bytes" ? bytes(n) : count(n));

export const windowText = (quota) => `${amount(quota, quota.limit)}${["requests", "bytes"].includes(quota.unit) ? "" : ` ${t(`unit.${quota.unit}`)}`}/${quota.calendar || windowLength(quota.window_s)}`;

function windowLength(seconds) {
  const named = { 1: "s", 60: "min", 3600: "h", 86400: "d" }[seconds];
  return named || `${seconds}s`;
}

export function usedText(platform) {
  const quota = fullest(platform);
  return quota ? t("used_of", { used: amount(quota, quota.used), limit: windowText(quota) }) : "–";
}

export function drainText(platform) {
  if (platform.growing) return t("growing");
  if (platform.drain_eta_seconds === null) return platform.state === "paused" || platform.state === "broken" ? t("after_it_goes_on") : "–";
  return platform.drain_eta_seconds < 1 ? t("drained_now") : duration(platform.drain_eta_seconds);
}

// What happens at the end of a state or of a wait.
export const untilWord = (state) => (has(`until.${state}`) ? t(`until.${state}`) : t("until_then"));

// "It waits for ... until ...", in the reader's language.
export function waitingSentence(waiting) {
  const limit = waiting.limit ? `${waiting.limit.rate} (${t(`source.${waiting.limit.source}`)})` : "";
  const key = `waits.${waiting.for}`;
  const parts = [has(key) ? t(key, { limit, group: waiting.group || "" }) : waiting.for];
  if (waiting.group) parts.push(" ", t("of_group", { group: waiting.group }));
  if (waiting.reason) parts.push(": ", heard(waiting.reason));
  parts.push(t("stop"));
  if (waiting.until) parts.push(untilWord(waiting.for), " ", time(waiting.until), t("stop"));
  return parts;
}
