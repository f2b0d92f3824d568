// Words in the reader's language, and numbers, durations and times as people read them.

import { now } from "./api.js";
import { h } from "./dom.js";

const LANGUAGES = ["en", "zh-CN"];
let words = {};
let daemonWords = []; // [pattern, in the reader's language]
const known = new Map(); // what was heard lately
const MOST_KNOWN = 1000;

export const language = () => document.documentElement.lang;
export const otherLanguage = () => LANGUAGES.find((each) => each !== language());

export async function loadWords() {
  const file = async (name) => (await fetch(new URL(`./lang/${name}.json`, import.meta.url))).json();
  const [own, said] = await Promise.all([file(language()), language() === "zh-CN" ? file("daemon.zh-CN") : {}]);
  words = own;
  daemonWords = Object.entries(said).map(([english, told]) => [pattern(english), told]);
  known.clear();
}

// What finds a sentence: each {name} is any text, and one of a thing may be told as `1 time`.
const pattern = (english) => new RegExp(`^${english.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\\\{(\w+)\\\}/g, "(?<$1>.+?)")
  .replace(/\b(time|request|minute|stretch)(e?s)\b/g, "$1(?:$2)?")}$`);

// What the daemon says in English, as the commands say it (cli/words/daemon_words.py); a code stays as it is.
export function heard(sentence) {
  if (!daemonWords.length || !sentence) return sentence;
  if (known.size > MOST_KNOWN) known.clear();
  if (!known.has(sentence)) known.set(sentence, inWords(sentence));
  return known.get(sentence);
}

function inWords(sentence) {
  for (const [english, told] of daemonWords) {
    const found = english.exec(sentence);
    if (found) return told.replace(/\{\{|\}\}|\{(\w+)\}/g, (whole, name) => (name ? heard(found.groups[name]) : whole[0]));
  }
  const [, where, rest] = /^(\S+): (.+)$/s.exec(sentence) || [];
  return where ? `${where}: ${heard(rest)}` : sentence;
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
export const many = (key, n, more = {}) => t(n === 1 && has(`${key}.one`) ? `${key}.one` : key, { n: count(n), ...more });

export const count = (n) => (n === null || n === undefined ? "–" : new Intl.NumberFormat(language()).format(n));
export const rate = (n) => (n === null || n === undefined ? "–" : t("per_s", { n: n === 0 ? "0" : n < 0.05 ? "<0.1" : n.toFixed(n < 10 ? 1 : 0) }));
// A part of 1 in percent, never more than it is: 0.99996 is 99.9 %.
export const share = (part) => `${Math.floor(part * 1000 + 1e-6) / 10} %`;
export const bytes = (n) => {
  const step = n >= 1e9 ? [1e9, "GB"] : n >= 1e6 ? [1e6, "MB"] : n >= 1e3 ? [1e3, "kB"] : [1, "B"];
  return `${(n / step[0]).toFixed(step[0] === 1 ? 0 : 1)} ${step[1]}`;
};

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 9.95) return t("d.s", { n: Number(seconds.toFixed(1)) });
  const s = Math.round(seconds);
  for (const [size, unit, next, rest] of UNITS) {
    if (s < size) continue;
    const over = Math.floor((s % size) / next);
    return t(`d.${unit}`, { n: Math.floor(s / size) }) + (over ? t("d.space") + t(`d.${rest}`, { n: over }) : "");
  }
  return t("d.s", { n: s });
}

// [seconds, unit, seconds of the next smaller unit, that unit]
const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]];

export function relative(instant) {
  const away = Math.round((Date.parse(instant) - now()) / 1000);
  return away === 0 ? t("now") : t(away > 0 ? "in" : "ago", { d: duration(Math.abs(away)) });
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

// Relative times grow older while a page stands open.
export function refreshTimes() {
  for (const each of document.querySelectorAll("time[data-full]")) {
    const text = relative(each.dateTime);
    if (each.textContent === text) continue;
    each.textContent = text;
    each.setAttribute("aria-label", `${text}, ${each.dataset.full}`);
  }
}
