// Comparisons with the order center: the runs, and what one of them found, with what to do about it.

import { get, post } from "../api.js";
import { button, failed, say } from "../actions.js";
import { fill, h, link, row, table } from "../dom.js";
import { count, has, t, time } from "../words.js";

const EVERY_MS = 3000;
const SHOWN = 500;

export async function show(box, { query, ends, shown, current }) {
  const wanted = query.get("run");
  const act = h("div", { class: "actions" });
  const list = h("section", { class: "card" });
  const found = h("div");
  fill(box, h("h1", {}, t("page.reconcile")), h("p", { class: "sub" }, t("reconcile_text")), act, list, found);
  let timer = 0;
  let told = ""; // the run whose differences are shown
  ends.push(() => clearTimeout(timer));
  const compared = await platforms();
  fill(act, compared.length ? null : t("reconcile_none"), compared.map((platform) => button("reconcile", t("reconcile_now", { platform }), () => start(platform, again), { needs: "operate" })));
  const again = async () => {
    clearTimeout(timer);
    const { items } = await get("/v1/reconciliations");
    fillRuns(list, items, wanted);
    if (current() && items.some((each) => each.state === "running")) timer = setTimeout(() => again().catch(failed), EVERY_MS);
    const run = wanted || (items.find((each) => each.state !== "running") || {}).run;
    if (!run || run === told) return;
    fillRun(found, await get(`/v1/reconciliations/${encodeURIComponent(run)}`));
    told = run;
  };
  await again();
  shown();
}

async function platforms() {
  const { items } = await get("/v1/platforms");
  const { config } = await get("/v1/config");
  return items.map((each) => each.name).filter((name) => config && config.reconcile && name in config.reconcile);
}

async function start(platform, again) {
  try {
    await post("/v1/reconciliations", { platform });
    say(t("reconcile_started", { platform }));
    await again();
  } catch (problem) { failed(problem); }
}

const kind = (name) => (has(`kind.${name}`) ? t(`kind.${name}`) : name);
const counts = (told) => Object.entries(told).map(([name, n]) => `${kind(name)} ${count(n)}`).join(" · ");

function fillRuns(list, items, wanted) {
  if (!items.length) { fill(list, h("p", { class: "empty" }, t("no_runs"))); return; }
  const columns = [{ label: t("since") }, { label: t("filter.platform") }, { label: t("state") }, { label: t("reconcile_agree"), n: true }, { label: t("reconcile_differ"), wide: true }];
  fill(list, table(columns, items.map((each) => row(columns, [
    link(`/ui/reconcile?run=${encodeURIComponent(each.run)}`, each.until ? time(each.until) : each.run), each.platform,
    h("span", { class: `state ${each.state === "done" && each.complete ? "ok" : each.state === "running" ? "wait" : "bad"}` }, t(`run.${each.state === "done" && !each.complete ? "incomplete" : each.state}`)),
    count(each.agree), counts(each.counts) || "–",
  ], { "data-run": each.run, class: each.run === wanted ? "chosen" : null })), t("page.reconcile")).box);
}

function fillRun(box, run) {
  const kinds = Object.keys(run.counts);
  fill(box,
    h("h2", {}, `${run.platform} · ${run.run}`),
    run.failed ? h("p", { class: "note bad" }, run.failed) : null,
    run.problems.length ? h("ul", {}, run.problems.slice(0, 100).map((each) => h("li", {}, `${each.side} · ${each.place}: ${each.text}`))) : null,
    run.repair ? h("p", {}, run.repair.refused || t("reconcile_repaired", { sent: count(run.repair.sent), of: count(run.repair.proposed) })) : null,
    run.verified ? verified(run) : null,
    kinds.map((name) => section(name, run.counts[name], run.differences.filter((each) => each.kind === name))));
}

function verified(run) {
  const word = (name) => (has(`verified.${name}`) ? t(`verified.${name}`) : name);
  const left = run.verified_orders.filter((each) => each.result !== "repaired");
  return h("div", { "data-verified": run.verified.of },
    h("p", {}, t("reconcile_verified", { counts: Object.entries(run.verified.counts).map(([name, n]) => `${word(name)} ${count(n)}`).join(" · ") })),
    left.length ? h("ul", {}, left.slice(0, SHOWN).map((each) => h("li", {}, h("span", { class: "mono" }, each.key), ` ${word(each.result)}`))) : null);
}

function section(name, total, lines) {
  const columns = [{ label: t("filter.key") }, { label: t("reason") }, { label: t("reconcile_center") }, { label: t("filter.platform") }, { label: "relay" },
    { label: t("reconcile_do"), wide: true }, { label: t("since") }];
  const side = (each) => (each ? [each.status, each.at ? h("small", {}, time(each.at)) : null] : "–");
  return h("section", { class: "card", "data-kind": name }, h("h2", {}, `${kind(name)} · ${count(total)}`),
    table(columns, lines.slice(0, SHOWN).map((each) => row(columns, [
      h("span", { class: "mono" }, each.key), each.why || "–", side(each.order_center), side(each.platform),
      each.relay ? link(`/ui/callbacks/${encodeURIComponent(each.relay.id)}`, each.relay.state) : "–",
      has(`proposal.${each.proposal}`) ? t(`proposal.${each.proposal}`) : each.proposal, each.first_seen ? time(each.first_seen) : "–",
    ])), kind(name)).box);
}
