// All of it on one screen: the sentence, the ledger that adds up, one row a platform.

import { fill, h, link, put, row, table, card } from "../dom.js";
import { charts } from "../charts.js";
import { watch } from "../live.js";
import { bytes, count, duration, many, rate, t, time } from "../words.js";
import { drainText, fullest, stateClass, stateWord, usedText } from "./standing.js";

const TOTALS = [["accepted", null], ["delivered", 2], ["pending", 1], ["superseded", 5], ["dead", 4], ["expired", 3], ["unaccounted", null]];

export function show(box, { ends, shown }) {
  const columns = [
    { label: t("platform") }, { label: t("state"), wide: true },
    ...["in", "out", "pending", "oldest", "held", "dead", "used", "drain"].map((field) =>
      ({ label: t(`column.${field}`), n: true, field })),
  ];
  const sentence = h("p", { class: "sub" });
  const notes = h("div");
  const bar = h("div", { class: "ledger", role: "img", "aria-label": t("ledger") });
  const facts = h("div", { class: "facts" });
  const room = h("p", { class: "empty" });
  const { box: scroll, body } = table(columns, [], t("platforms"));
  const list = card(t("platforms"), scroll);
  const rows = new Map();
  fill(box, h("h1", {}, t("page.overview")), sentence, notes, card(t("ledger"), bar, facts, room), list,
    charts("_all", ends, ["rate", "backlog", "latency"]));

  ends.push(watch(({ platforms, ledger, problem }) => {
    tell(sentence, platforms, ledger, problem);
    fillNotes(notes, platforms);
    if (ledger) fillLedger(bar, facts, room, ledger);
    const gone = new Set(rows.keys());
    for (const platform of platforms) {
      gone.delete(platform.name);
      if (!rows.has(platform.name)) {
        rows.set(platform.name, platformRow(columns, platform.name));
        body.append(rows.get(platform.name).tr);
      }
      rows.get(platform.name).update(platform);
    }
    for (const name of gone) { rows.get(name).tr.remove(); rows.delete(name); }
    shown();
  }));
}

function tell(sentence, platforms, ledger, problem) {
  const parts = [];
  if (problem) parts.push(t("stale"));
  if (ledger) parts.push(ledger.total.unaccounted === 0 ? t("all_accounted") : t("unaccounted_found", { n: count(ledger.total.unaccounted) }));
  for (const state of ["broken", "throttled", "limited", "paused"]) {
    const n = platforms.filter((each) => each.state === state).length;
    if (n) parts.push(many(`platforms_${state}`, n));
  }
  put(sentence, parts.join(t("sentence_space")));
}

function fillNotes(notes, platforms) {
  const learned = platforms.filter((each) => each.learned_limit && each.learned_limit.source === "learned" && each.learned_limit.yaml);
  const wanted = JSON.stringify(learned.map((each) => [each.name, each.learned_limit.yaml, each.learned_limit.evidence.sentence]));
  if (notes.dataset.told === wanted) return;
  notes.dataset.told = wanted;
  fill(notes, learned.slice(0, 5).map((each) => h("div", { class: "note" },
    h("b", {}, each.name), ": ", each.learned_limit.evidence.sentence, ". ", t("adopt_it"), " ", h("code", {}, each.learned_limit.yaml), " ",
    link(`/ui/platforms/${encodeURIComponent(each.name)}`, t("evidence")))));
}

function fillLedger(bar, facts, room, ledger) {
  const total = ledger.total;
  if (!facts.childElementCount) {
    fill(bar, TOTALS.filter(([, series]) => series).map(([name, series]) => h("i", { class: `s${series}`, "data-part": name })));
    fill(facts, TOTALS.map(([name, series]) => h("div", {},
      h("b", { "data-ledger": name }), h("span", {}, series ? h("i", { class: `dot s${series}` }) : null, t(`state.${name}`)))));
  }
  for (const part of bar.children) part.style.width = `${(100 * total[part.dataset.part]) / Math.max(1, total.accepted)}%`;
  for (const figure of facts.querySelectorAll("[data-ledger]")) {
    figure.dataset.value = total[figure.dataset.ledger];
    put(figure, count(total[figure.dataset.ledger]));
  }
  const { used_bytes: used, usable_bytes: usable, full } = ledger.store;
  put(room, full ? t("store_full") : usable ? t("store_room", { used: bytes(used), usable: bytes(usable) }) : t("store_used", { used: bytes(used) }));
}

function platformRow(columns, name) {
  const state = h("span", { "data-field": "state" });
  const reason = h("small", { "data-field": "reason" });
  const until = h("small", { "data-field": "until" });
  const gaugeBar = h("i");
  const gauge = h("div", { class: "gauge" }, gaugeBar);
  const values = columns.slice(2).map(() => h("span"));
  const used = h("span", {}, values[6], gauge);
  const cells = [link(`/ui/platforms/${encodeURIComponent(name)}`, h("b", {}, name)), [state, reason, until],
    ...values.map((each, place) => (place === 6 ? used : each))];
  const tr = row(columns, cells, { "data-platform": name });
  const update = (platform) => {
    state.className = stateClass(platform.state);
    state.dataset.value = platform.state;
    put(state, stateWord(platform.state));
    put(reason, platform.reason);
    if (platform.until) fill(until, t("until_then"), " ", time(platform.until)); else put(until, "");
    const quota = fullest(platform);
    gauge.hidden = !quota;
    gauge.className = quota && quota.used >= quota.limit ? "gauge full" : "gauge";
    if (quota) gaugeBar.style.width = `${(100 * quota.used) / quota.limit}%`;
    [rate(platform.in_per_s), rate(platform.out_per_s), count(platform.pending),
      platform.oldest_due_seconds === null ? "–" : duration(platform.oldest_due_seconds), count(platform.held),
      count(platform.dead), usedText(platform), drainText(platform)].forEach((text, place) => put(values[place], text));
  };
  return { tr, update };
}
