// Lists of callbacks: the filter form, how many match, the rows, the next page. The address is the filter.

import { get } from "../api.js";
import { failed } from "../actions.js";
import { fill, h, link, row, table } from "../dom.js";
import { current } from "../live.js";
import { count, t, time } from "../words.js";
import { stateBadge, stateWord } from "./standing.js";

const COUNT_MS = 300;
export const STATES = ["pending", "delivered", "dead", "expired", "superseded"];
const KEYS = ["platform", "state", "key", "event", "reason", "code", "ids", "since", "until"];

export function filterOf(query, keys = KEYS) {
  return Object.fromEntries(keys.map((key) => [key, query.get(key)]).filter(([, value]) => value));
}

export function address(path, filter) {
  const text = new URLSearchParams(filter).toString();
  return text ? `${path}?${text}` : path;
}

export function searchForm(path, filter, keys, platforms) {
  const inputs = keys.map((key) => {
    let input;
    if (key === "state" || key === "platform") {
      const known = key === "state" ? STATES.map((each) => [each, stateWord(each)]) : platforms.map((each) => [each, each]);
      if (filter[key] && !known.some(([value]) => value === filter[key])) known.push([filter[key], filter[key]]);
      input = h("select", { name: key }, h("option", { value: "" }, t("any")),
        known.map(([value, label]) => h("option", { value, selected: value === filter[key] }, label)));
    } else {
      input = h("input", { name: key, value: filter[key] || "", autocomplete: "off", ...(key === "since" || key === "until" ? { placeholder: "2h, 2026-11-30", title: t("filter_times") } : {}) });
    }
    return h("label", {}, t(`filter.${key}`), input);
  });
  return h("form", { class: "search", role: "search", "data-search": "", onsubmit: (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].map(([key, value]) => [key, value.trim()]).filter(([, value]) => value);
    dispatchEvent(new CustomEvent("relay:go", { detail: address(path, Object.fromEntries(given)) }));
  } }, inputs, h("button", { type: "submit", class: "first" }, t("search")));
}

export async function platformNames() {
  const known = current();
  if (known) return known.platforms.map((each) => each.name);
  return (await get("/v1/platforms")).items.map((each) => each.name);
}

function tell(counted, n, open, shown) {
  counted.dataset.value = n;
  counted.toggleAttribute("data-more", open);
  counted.textContent = open ? t("match_more", { n: count(n), shown: count(shown) }) : shown < n ? t("match_part", { n: count(n), shown: count(shown) }) : t("match", { n: count(n) });
}

// Counts what comes after the first page for as long as that may take; null: there are more.
async function countAll(path, filter, cursor, shown, counted) {
  const kept = Object.keys(filter).every((key) => key === "platform" || key === "state");
  const state = path === "/v1/dead-letters" ? "dead" : filter.state;
  if (kept && (state === "pending" || state === "dead")) { // each platform has these two figures
    const { items } = await get("/v1/platforms");
    return items.filter((each) => !filter.platform || each.name === filter.platform).reduce((sum, each) => sum + each[state], 0);
  }
  const until = performance.now() + COUNT_MS;
  let n = shown;
  let next = cursor;
  while (next !== null && performance.now() < until) {
    const page = await get(path, { ...filter, cursor: next, limit: 1000 });
    n += page.items.length;
    next = page.next;
  }
  if (next === null) return n;
  tell(counted, n, true, shown);
  return null;
}

// The rows that match, and a button for the next page. Returns the box and what shows how many there are.
export async function results(path, filter, columns) {
  const counted = h("p", { class: "sub", "data-count": "" });
  const { box, body } = table(columns, [], t("callbacks"));
  const more = h("button", { type: "button", "data-action": "more" }, t("more"));
  const empty = h("p", { class: "empty" }, t("nothing_matches"));
  let cursor = null;
  let shown = 0;
  let exact = null; // how many match, where that is known
  const next = async () => {
    const page = await get(path, cursor ? { ...filter, cursor } : filter);
    for (const each of page.items) body.append(callbackRow(columns, each));
    cursor = page.next;
    shown += page.items.length;
    if (cursor === null) exact = shown;
    else if (exact === null) exact = await countAll(path, filter, cursor, shown, counted);
    if (exact !== null) tell(counted, exact, false, shown);
    more.hidden = cursor === null;
    empty.hidden = shown > 0 || cursor !== null;
    box.hidden = shown === 0;
  };
  more.addEventListener("click", () => next().catch(failed));
  await next();
  return { counted, box: h("section", { class: "card" }, box, empty, more) };
}

export const columnsOf = () => [
  { label: t("callback"), wide: true }, { label: t("platform") }, { label: t("state") }, { label: t("filter.key") },
  { label: t("column.accepted") }, { label: t("attempts"), n: true },
];

function callbackRow(columns, each) {
  return row(columns, [
    [link(`/ui/callbacks/${encodeURIComponent(each.id)}`, h("span", { class: "mono" }, each.id)),
      h("small", {}, [each.event, each.reason, each.message].filter(Boolean).join(" · "))],
    link(`/ui/platforms/${encodeURIComponent(each.platform)}`, each.platform),
    [stateBadge(each.state), each.held ? [" ", h("span", { class: "state wait" }, t("state.held"))] : null],
    each.key || "–", time(each.accepted_at), count(each.attempts),
  ], { "data-callback": each.id });
}
