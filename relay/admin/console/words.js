// Words in the reader's language, and numbers, durations and times as people read them.

import { now } from "./api.js";
import { h } from "./dom.js";

const LANGUAGES = ["en", "zh-CN"];
let words = {};

export const language = () => document.documentElement.lang;
export const otherLanguage = () => LANGUAGES.find((each) => each !== language());

export async function loadWords() {
  const answer = await fetch(new URL(`./lang/${language()}.json`, import.meta.url));
  words = await answer.json();
}

export function remember(key, value) {
  try { localStorage.setItem(`relay.${key}`, value); } catch { /* a browser that keeps nothing still shows everything */ }
}

export const has = (key) => key in words;

export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

// A sentence that depends on a number: `key.one` for one, else `key`.
export const many = (key, n) => t(n === 1 && has(`${key}.one`) ? `${key}.one` : key, { n: count(n) });

export const count = (n) => (n === null || n === undefined ? "–" : new Intl.NumberFormat(language()).format(n));
export const rate = (n) => (n === null || n === undefined ? "–" : t("per_s", { n: n === 0 ? "0" : n.toFixed(n < 10 ? 1 : 0) }));
// A part of 1 in percent, never more than it is: 0.99996 is 99.9 %.
export const share = (part) => `${Math.floor(part * 1000 + 1e-6) / 10} %`;
export const bytes = (n) => {
  const step = n >= 1e9 ? [1e9, "GB"] : n >= 1e6 ? [1e6, "MB"] : n >= 1e3 ? [1e3, "kB"] : [1, "B"];
  return `${(n / step[0]).toFixed(step[0] === 1 ? 0 : 1)} ${step[1]}`;
};

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return t("d.s", { s: seconds.toFixed(1) });
  const s = Math.round(seconds);
  if (s < 60) return t("d.s", { s });
  if (s < 3600) return t("d.ms", { m: Math.floor(s / 60), s: String(s % 60).padStart(2, "0") });
  if (s < 172800) return t("d.hm", { h: Math.floor(s / 3600), m: String(Math.floor((s % 3600) / 60)).padStart(2, "0") });
  return t("d.d", { d: Math.floor(s / 86400), h: Math.floor((s % 86400) / 3600) });
}

export function relative(instant) {
  const away = (Date.parse(instant) - now()) / 1000;
  return t(away > 0 ? "in" : "ago", { d: duration(Math.abs(away)) });
}

// Relative, with the local time and UTC on hover and on focus.
export function time(instant) {
  if (!instant) return h("span", {}, "–");
  const at = new Date(instant);
  const local = at.toLocaleString(language(), { dateStyle: "medium", timeStyle: "medium" });
  const full = `${local}\n${instant}`;
  return h("time", { datetime: instant, "data-full": full, tabindex: "0", "aria-label": `${relative(instant)}, ${full}` },
    relative(instant));
}
