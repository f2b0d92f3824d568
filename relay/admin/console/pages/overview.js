// All of it on one screen: the sentence, the ledger that adds up, one row a platform.

import { get, Problem } from "../api.js";
import { may } from "../actions.js";
import { fill, h, link, put, redrawn, row, table, card } from "../dom.js";
import { charts } from "../charts.js";
import { watch } from "../live.js";
import { bytes, count, duration, heard, many, rate, t, time } from "../words.js";
import { placeOf } from "./alerts.js";
import { drainText, fullest, stateClass, stateWord, untilWord, usedText } from "./standing.js";

const STATES = ["broken", "throttled", "limited", "paused"]; // what is told first
const MOST_NAMES = 5; // in the sentence
const MOST_ALERTS = 3;
const MANY = 12; // platforms that are looked through without a search
const TOTALS = [["accepted", null], ["delivered", 2], ["pending", 1], ["superseded", 5], ["dead", 4], ["expired", 3], ["unaccounted", null]];

export function show(box, { ends, shown }) {
  const columns = [
    { label: t("platform") }, { label: t("state"), wide: true },
    ...["in", "out", "pending", "oldest", "held", "dead", "used", "drain"].map((field) =>
      ({ label: t(`column.${field}`), n: true, field })),
  ];
  const sentence = h("p", { class: "sub" });
  const told = redrawn(sentence);
  const alarms = h("div");
  const notes = h("div");
  const learned = redrawn(notes);
  const bar = h("div", { class: "ledger", role: "img", "aria-label": t("ledger") });
  const facts = h("div", { class: "facts" });
  const room = h("p", { class: "empty" });
  const { box: scroll, body } = table(columns, [], t("platforms"));
  const wanted = h("input", { name: "find", type: "search", autocomplete: "off", oninput: () => find() });
  const finder = h("form", { class: "search", role: "search", onsubmit: (event) => event.preventDefault() }, h("label", {}, t("find_platform"), wanted));
  const list = card(t("platforms"), finder, scroll);
  const rows = new Map();
  fill(box, h("h1", {}, t("page.overview")), sentence, alarms, notes, card(t("ledger"), bar, facts, room), list,
    charts("_all", ends, ["rate", "backlog", "latency"]));

  const find = () => {
    const text = wanted.value.trim().toLowerCase();
    for (const { tr, words } of rows.values()) tr.hidden = !words().includes(text);
  };
  const alarmed = alarmsIn(alarms);
  ends.push(watch(({ platforms, ledger, alerts }) => {
    told(facing(platforms, ledger), sentenceOf);
    const found = platforms.filter((each) => each.learned_limit && each.learned_limit.source === "learned" && each.learned_limit.yaml);
    learned(found.map((each) => [each.name, each.learned_limit.yaml, each.learned_limit.evidence.sentence]), notesOf);
    alarmed(alerts.filter((each) => each.rule !== "limit-learned"));
    finder.hidden = platforms.length <= MANY;
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
    find();
    shown();
  }));
}

// What the sentence is made of: per state the platforms in it, what waits for a person, and what the ledger lacks.
const facing = (platforms, ledger) => [STATES.map((state) => platforms.filter((each) => each.state === state).map((each) => each.name)),
  platforms.length, platforms.reduce((sum, each) => sum + each.dead + each.held, 0), ledger && ledger.total.unaccounted];

// First what is the matter and where, then whether everything is accounted for.
function sentenceOf([stated, all, forPerson, unaccounted]) {
  const parts = STATES.map((state, place) => [state, stated[place]]).filter(([, names]) => names.length).map(([state, names]) => {
    const [before, after] = many(`platforms_${state}`, names.length, { names: "\n" }).split("\n");
    const shown = names.slice(0, MOST_NAMES).map((name, place) => [place ? t("comma") : "", link(`/ui/platforms/${encodeURIComponent(name)}`, name)]);
    return [before, shown, names.length > MOST_NAMES ? t("and_more", { n: count(names.length - MOST_NAMES) }) : "", after];
  });
  if (!parts.length && all) parts.push(t("platforms_ok"));
  if (forPerson) parts.push(may("view") ? link("/ui/dead-letters", many("for_person", forPerson)) : many("for_person", forPerson));
  if (unaccounted !== null) parts.push(unaccounted === 0 ? t("all_accounted") : t("unaccounted_found", { n: count(unaccounted) }));
  return parts.map((part, place) => [place ? t("sentence_space") : "", part]);
}

const notesOf = (learned) => learned.slice(0, MOST_NAMES).map(([name, yaml, why]) => h("div", { class: "note" },
  h("b", {}, name), ": ", heard(why), t("stop"), t("adopt_it"), " ", h("code", {}, yaml), " ",
  link(`/ui/platforms/${encodeURIComponent(name)}`, t("evidence"))));

// The alerts that fire, in the reader's language, which the stream does not speak: asked for when they are others.
function alarmsIn(box) {
  let known = "[]";
  const ask = async () => {
    try {
      const { items } = await get("/v1/alerts");
      const firing = items.filter((each) => each.status === "firing" && each.rule !== "limit-learned");
      fill(box, firing.slice(0, MOST_ALERTS).map((each) => h("div", { class: "note bad", "data-alert": each.rule },
        h("b", {}, each.rule), " · ", each.summary, " · ", time(each.since), " · ", placeOf(each, t("act_here")), " ", h("code", {}, each.todo))),
      firing.length > MOST_ALERTS ? h("p", { class: "sub" }, link("/ui/alerts", many("more_alerts", firing.length - MOST_ALERTS))) : null);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      known = ""; // asked again with the next news
    }
  };
  return (firing) => {
    const now = JSON.stringify(firing.map((each) => [each.rule, each.platform, each.group, each.since]));
    if (now === known || !may("view")) return;
    known = now;
    ask();
  };
}

function fillLedger(bar, facts, room, ledger) {
  const total = ledger.total;
  if (!facts.childElementCount) {
    fill(bar, TOTALS.filter(([, series]) => series).map(([name, series]) => h("i", { class: `s${series}`, "data-part": name })));
    fill(facts, TOTALS.map(([name, series], place) => h("div", { "data-sign": place ? (place > 1 ? "+" : "=") : null },
      h("b", { "data-ledger": name }), h("span", {}, series ? h("i", { class: `dot s${series}` }) : null, t(`state.${name}`)))));
  }
  for (const part of bar.children) part.style.width = `${(100 * total[part.dataset.part]) / Math.max(1, total.accepted)}%`;
  for (const figure of facts.querySelectorAll("[data-ledger]")) {
    figure.dataset.value = total[figure.dataset.ledger];
    put(figure, count(total[figure.dataset.ledger]));
  }
  const { used_bytes: used, usable_bytes: usable, full } = ledger.store;
  put(room, `${t("ledger_text")} ${full ? t("store_full") : usable ? t("store_room", { used: bytes(used), usable: bytes(usable) }) : t("store_used", { used: bytes(used) })}`);
}

function platformRow(columns, name) {
  const state = h("span", { "data-field": "state" });
  const reason = h("small", { "data-field": "reason" });
  const until = h("small", { "data-field": "until" });
  const ends = redrawn(until);
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
    put(reason, heard(platform.reason));
    ends([platform.until, platform.state], () => (platform.until ? [untilWord(platform.state), " ", time(platform.until)] : []));
    const quota = fullest(platform);
    gauge.hidden = !quota;
    gauge.className = quota && quota.used >= quota.limit ? "gauge full" : "gauge";
    if (quota) gaugeBar.style.width = `${(100 * quota.used) / quota.limit}%`;
    [rate(platform.in_per_s), rate(platform.out_per_s), count(platform.pending),
      platform.oldest_due_seconds === null ? "–" : duration(platform.oldest_due_seconds), count(platform.held),
      count(platform.dead), usedText(platform), drainText(platform)].forEach((text, place) => put(values[place], text));
  };
  return { tr, update, words: () => `${name} ${state.textContent} ${reason.textContent}`.toLowerCase() };
}
