// Try a change: other settings on the traffic of the last hour, worked out in virtual time before anything is changed.

import { get, post } from "../api.js";
import { button, copy, failed } from "../actions.js";
import { add, card, fill, h, row, table } from "../dom.js";
import { count, duration, t, time } from "../words.js";

// [name of the input, label, what of it the API is sent, what of the settings in force it shows]
const FIELDS = [
  ["rate", "try_rate", (text) => ({ rate: text.split(",").map((each) => each.trim()) }), (own) => [own.rate].flat().filter(Boolean).join(", ")],
  ["max_items", "try_max_items", (text) => ({ batch: { max_items: Number(text) } }), (own) => own.batch?.max_items],
  ["concurrency", "try_concurrency", (text) => ({ concurrency: Number(text) }), (own) => own.concurrency],
];

const seconds = (value) => (value === null ? "–" : duration(value));
// [key of the figure, how it is written]
const FIGURES = [
  ["drained_s", (value) => (value === null ? t("never_drained") : value < 1 ? t("drained_now") : duration(value))],
  ["left", count], ["backlog_peak", count], ["p50_s", seconds], ["p99_s", seconds],
  ["requests_per_min", (value) => count(Math.round(value))], ["items_per_request", (value) => value.toFixed(1)],
  ["slots_used", (value) => (value === null ? "–" : `${Math.round(100 * value)} %`)],
  ["rejects", count], ["expired", count],
];

export function whatIf(name, path) {
  const result = h("div", { "aria-live": "polite" });
  const go = button("try", t("try"), null, { needs: "operate" });
  if (go.type) go.type = "submit";
  const fields = h("span", { class: "fields" });
  const form = h("form", { "data-try": "", class: "search", onsubmit: async (event) => {
    event.preventDefault();
    const given = [...new FormData(form)].filter(([, value]) => value.trim());
    if (!given.length) return;
    fill(result, h("p", { class: "empty" }, t("try_under_way")));
    try {
      const body = Object.assign({}, ...given.map(([key, value]) => FIELDS.find(([each]) => each === key)[2](value)));
      fill(result, told(name, await post(`${path}/simulate`, body)));
    } catch (problem) {
      fill(result);
      failed(problem);
    }
  } }, fields, go);
  build(name, fields);
  return card(t("try_a_change"), h("p", { class: "sub" }, t("try_modelled")), form, result);
}

async function build(name, fields) {
  let own = {};
  try {
    own = (await get("/v1/config")).config?.platforms?.[name] || {};
  } catch {
    own = {}; // then nothing tells what is in force, and the form works all the same
  }
  add(fields, FIELDS.map(([key, label, , shown]) => h("label", {}, t(label),
    h("input", { name: key, autocomplete: "off", placeholder: String(shown(own) ?? ""), inputmode: key === "rate" ? null : "numeric" }))));
}

const listed = (value) => (Array.isArray(value) ? (value.length === 1 ? value[0] : `[${value.join(", ")}]`) : value ?? "–");

const settingText = (settings) => Object.entries(settings).flatMap(([key, value]) =>
  (value && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).map(([inner, each]) => `${key}.${inner}: ${each ?? "–"}`)
    : `${key}: ${listed(value)}`)).join(", ");

// The same as lines of the configuration.
const yaml = (settings) => Object.entries(settings).map(([key, value]) =>
  (value && typeof value === "object" && !Array.isArray(value)
    ? `${key}: {${Object.entries(value).map(([inner, each]) => `${inner}: ${each}`).join(", ")}}`
    : `${key}: ${listed(value)}`)).join("\n");

function told(name, answer) {
  const columns = [{ label: t("figure") }, { label: `${t("try_now")}: ${settingText(answer.settings)}`, n: true },
    { label: `${t("try_tried")}: ${settingText(answer.changed)}`, n: true }];
  const rows = FIGURES.map(([key, text]) =>
    row(columns, [t(`figure.${key}`), text(answer.now[key]), h("b", {}, text(answer.tried[key]))], { "data-figure": key }));
  const lines = yaml(answer.changed);
  return h("div", { "data-tried": name },
    h("p", {}, t("try_traffic", { n: count(answer.callbacks), waiting: count(answer.waiting) }), " ", time(answer.from), " – ", time(answer.until), "."),
    table(columns, rows, t("try_a_change")).box,
    h("p", {}, t("adopt"), " ", h("code", {}, lines), " ", button("copy-line", t("copy"), () => copy(lines))),
    h("details", {}, h("summary", {}, t("try_assumed")),
      h("ul", {}, [...answer.limits.map((each) => t("try_limit", { limit: each })), ...answer.assumed].map((each) => h("li", {}, each)))));
}
