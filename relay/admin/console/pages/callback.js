// One callback: the sentence why it waits, its life, each attempt as the request it was, and its order elsewhere.

import { get, post, Problem } from "../api.js";
import { ask, button, copy, failed, operation, say } from "../actions.js";
import { card, fill, h, link, pairs, redrawn, row, table } from "../dom.js";
import { bytes, count, duration, t, time } from "../words.js";
import { stateBadge, stateWord, waitingSentence } from "./standing.js";

const ORDER_SHOWN = 50;
const AGAIN_MS = 3000; // what has not ended is followed

export async function show(box, { params: [id], ends, shown, current }) {
  const path = `/v1/callbacks/${encodeURIComponent(id)}`;
  const first = await get(path);
  const payload = h("pre", { "data-payload": "", tabindex: "0" }, t("payload_not_shown"));
  const boxes = Array.from({ length: 6 }, () => h("div"));
  const [head, standing, lived, request, tried, order] = boxes.map(redrawn);
  fill(box, boxes[0], boxes[1], h("div", { class: "grid" }, boxes[2], card(t("request"), boxes[3], payload)), boxes[4], boxes[5]);
  let config = {};
  const update = (found, same) => {
    const state = [found.state, found.held, found.reason, found.due_at, found.attempts];
    head([found.state], () => headline(found));
    standing([state, found.waiting], () => [sentence(found), actions(found, path, payload)]);
    lived(state, () => life(found));
    request([config, found.attempts.at(-1)], () => requestLines(config, found.attempts.at(-1)));
    tried([config, found.attempts], () => attempts(found, config));
    order(same, () => sameOrder(found, same));
  };
  update(first, null);
  const [settled, same] = await Promise.all([settings(first.platform), ofOrder(first), showPayload(path, payload)]); // the payload as far as the user's view goes
  if (!current()) return;
  config = settled;
  update(first, same);
  shown();
  if (first.state === "pending") follow(path, update, { ends, current });
}

// Shows what becomes of a callback, until it has ended.
function follow(path, update, { ends, current }) {
  let timer = 0;
  ends.push(() => clearTimeout(timer));
  const look = async () => {
    let ended = false;
    try {
      if (!document.hidden) {
        const found = await get(path);
        const same = await ofOrder(found);
        if (current()) update(found, same);
        ended = found.state !== "pending";
      }
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem; // it is tried again
    }
    if (current() && !ended) timer = setTimeout(look, AGAIN_MS);
  };
  timer = setTimeout(look, AGAIN_MS);
}

const headline = (found) => [
  h("h1", {}, h("span", { class: "mono", "data-callback": found.id }, found.id), " ", stateBadge(found.state)),
  h("p", { class: "sub" }, [found.event, found.key].filter(Boolean).join(" · "), found.event || found.key ? " → " : "",
    link(`/ui/platforms/${encodeURIComponent(found.platform)}`, found.platform), ", ", t("accepted_at"), " ", time(found.accepted_at)),
];

function sentence(found) {
  if (found.waiting) {
    const behind = found.waiting.behind;
    return h("div", { class: "note", "data-waiting": "" }, waitingSentence(found.waiting),
      behind ? [link(`/ui/callbacks/${encodeURIComponent(behind.id)}`, behind.id), " ", stateWord(behind.state), t("stop"),
        behind.waiting ? waitingSentence(behind.waiting) : behind.reason] : null);
  }
  const kept = found.history ? h("div", { class: "note", "data-history": "" }, t("in_history", { host: found.history })) : null;
  if (found.state === "delivered") return kept;
  const ended = h("div", { class: found.state === "superseded" ? "note" : "note bad" }, [found.reason, found.message].filter(Boolean).join(": "),
    found.maybe_applied ? [" ", t("maybe_applied")] : null, found.payload_deleted ? [" ", t("payload_deleted")] : null);
  return h("div", {}, kept, ended);
}

function actions(found, path, payload) {
  const filter = { ids: [found.id] };
  const why = (...states) => (found.payload_deleted ? t("payload_deleted") : states.includes(found.state) ? "" : t("not_in_state", { state: stateWord(found.state) }));
  return h("div", { class: "actions" },
    button("retry", t("action.retry…"), () => operation("retry", filter), { needs: "operate", why: why("dead", "expired") }),
    button("drop", t("action.drop…"), () => operation("drop", filter), { needs: "operate", why: why("pending", "dead") }),
    button("resolve", t("action.resolve_delivered…"), () => operation("resolve", filter, { as: "delivered" }),
      { needs: "operate", why: found.held ? "" : t("not_held") }),
    button("reveal", t("action.reveal…"), () => reveal(path, payload), { needs: "reveal", why: found.payload_deleted ? t("payload_deleted") : "" }));
}

// Asks for a reason and for the own token again; shows the payload as it came until the page is left.
async function reveal(path, box) {
  const given = await ask({ title: t("action.reveal"), text: t("ask.reveal"),
    fields: [{ name: "token", label: t("own_token"), type: "password", required: true }] });
  if (given === null) return;
  try {
    fillPayload(box, await post(`${path}/reveal`, { reason: given.reason, token: given.token }));
    say(t("revealed"));
  } catch (problem) {
    failed(problem);
  }
}

async function showPayload(path, box) {
  try {
    fillPayload(box, await get(path, { payload: 1 }));
  } catch (problem) {
    failed(problem);
  }
}

function fillPayload(box, told) {
  const text = told.payload_form === "hidden" ? t("payload_hidden", { bytes: bytes(told.payload_bytes) })
    : typeof told.payload === "string" ? told.payload : JSON.stringify(told.payload, null, 2);
  fill(box, text);
}

function life(found) {
  const steps = [h("li", {}, time(found.accepted_at), t("life.accepted", { bytes: bytes(found.bytes) }))];
  for (const each of found.attempts) steps.push(h("li", {}, time(each.started_at), attemptText(each), h("small", {}, each.reason)));
  if (found.ended_at) steps.push(h("li", { class: "now" }, time(found.ended_at), stateWord(found.state), h("small", {}, found.reason)));
  else steps.push(h("li", { class: "now" }, time(found.due_at), t("life.due"), h("small", {}, t("life.expires"), " ", time(found.expires_at))));
  return card(t("life"), h("ol", { class: "life" }, steps));
}

const attemptText = (each) => [t("attempt_n", { n: each.attempt }), each.status ?? "", each.outcome || t("under_way"),
  each.duration_s === null ? "" : duration(each.duration_s)].filter((part) => part !== "").join(" · ");

function attempts(found, config) {
  const columns = [{ label: t("attempt") }, { label: t("batch") }, { label: t("started") }, { label: t("answer"), wide: true }, { label: t("took"), n: true }];
  const rows = found.attempts.map((each) => row(columns, [
    count(each.attempt), h("span", { class: "mono" }, each.batch), time(each.started_at),
    [h("b", {}, [each.status, each.outcome].filter(Boolean).join(" ") || t("under_way")),
      h("small", {}, each.reason, each.ambiguous ? ` · ${t("maybe_applied")}` : ""), each.excerpt ? h("small", { class: "mono" }, each.excerpt) : null,
      h("details", { "data-request": each.batch }, h("summary", {}, t("request")), requestLines(config, each, "copy-attempt"))],
    each.duration_s === null ? "–" : duration(each.duration_s),
  ], { "data-attempt": each.attempt }));
  if (!rows.length) return card(t("attempts"), h("p", { class: "empty" }, t("no_attempts")));
  return card(t("attempts"), table(columns, rows, t("attempts")).box);
}

async function settings(platform) {
  try {
    return (await get("/v1/config")).config?.platforms?.[platform] || {};
  } catch {
    return {}; // the rest of the page does not need it
  }
}

// The request of an attempt (of none: the one to come), with this callback as its body.
function requestLines(config, attempt, action = "copy-curl") {
  const headers = { ...config.headers, ...(attempt ? { "Idempotency-Key": attempt.batch, "Relay-Attempt": attempt.attempt } : {}) };
  const curl = () => {
    const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
    const body = document.querySelector("[data-payload]").textContent;
    return [`curl -X ${config.method || "POST"} ${quoted(config.url || "")}`,
      ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`), `--data-raw ${quoted(body)}`].join(" \\\n  ");
  };
  return [h("div", { class: "actions" }, button(action, t("copy_curl"), () => copy(curl()))),
    pairs([["URL", h("code", {}, `${config.method || "POST"} ${config.url || "–"}`)],
      ...Object.entries(headers).map(([name, value]) => [name, h("code", {}, String(value))])])];
}

async function ofOrder(found) {
  if (!found.key) return null;
  try {
    return await get("/v1/callbacks", { key: found.key, limit: ORDER_SHOWN });
  } catch {
    return null; // its own page stands without the others
  }
}

function sameOrder(found, page) {
  if (!page || page.items.length < 2) return null;
  const steps = [...page.items].reverse().map((each) => h("li", { class: each.id === found.id ? "now" : null }, time(each.accepted_at),
    link(`/ui/callbacks/${encodeURIComponent(each.id)}`, each.event || each.id), " → ", each.platform, " ", stateBadge(each.state),
    h("small", {}, each.reason)));
  return card(t("same_order", { key: found.key }), h("ol", { class: "life" }, steps), page.next ? h("p", { class: "empty" }, t("newest_shown", { n: ORDER_SHOWN })) : null);
}
