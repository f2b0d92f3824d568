// The configuration in force, masked, each value with where it was said; and how another file is put in force.

import { get, Problem, post } from "../api.js";
import { ask, button, failed, say } from "../actions.js";
import { card, fill, h, row, table } from "../dom.js";
import { count, many, t, time } from "../words.js";

const DEFAULT = "built in"; // the origin of what no file says

export async function show(box, { shown }) {
  const told = await get("/v1/config");
  const problems = h("div");
  const columns = [{ label: t("setting"), wide: true }, { label: t("value") }, { label: t("origin") }];
  const { box: list, body } = table(columns, [], t("page.config"));
  const wanted = h("input", { name: "setting", type: "search", autocomplete: "off", oninput: () => settings() });
  const all = h("input", { name: "defaults", type: "checkbox", onchange: () => settings() });
  const settings = () => fill(body, Object.entries(told.origins).filter(([path, origin]) => path.includes(wanted.value.trim())
    && (all.checked || wanted.value.trim() || origin !== DEFAULT))
    .map(([path, origin]) => row(columns, [h("code", {}, path), h("span", { class: "mono" }, shownValue(valueAt(told.config, path))), origin])));
  settings();
  fill(box, h("h1", {}, t("page.config")), h("p", { class: "sub" }, h("code", {}, told.file)), refused(told.refused_reload), problems,
    h("div", { class: "actions" }, button("reload", t("action.reload…"), () => reload(problems), { needs: "operate" })),
    reloads(told.reloads), h("section", { class: "card" }, h("div", { class: "search" }, h("label", {}, t("find_setting"), wanted), h("label", { class: "check" }, all, t("with_defaults"))), list));
  shown();
}

function refused(last) {
  if (!last) return null;
  return h("div", { class: "note bad" }, t("reload_refused"), " ", time(last.at), ": ", many("problems", last.problems), t("stop"), t("see_with"), " ", h("code", {}, last.todo));
}

function reloads(past) {
  if (!past.length) return null;
  const columns = [{ label: t("when") }, { label: t("filter.who") }, { label: t("result") }, { label: t("changed"), wide: true }];
  return card(t("reloads"), table(columns, past.map((each) => row(columns, [time(each.at), each.by,
    h("span", { class: `state ${each.result === "applied" ? "ok" : "bad"}` }, t(`reload.${each.result}`)),
    each.problems ? [many("problems", each.problems), " ", h("code", {}, each.todo)] : each.changes.map((line) => h("small", { class: "mono" }, line)),
  ])), t("reloads")).box);
}

function valueAt(config, path) {
  let at = config;
  let rest = path;
  while (rest && at !== null && typeof at === "object") { // a name may have a dot in it: the longest key that fits
    const key = Object.keys(at).filter((each) => rest === each || rest.startsWith(`${each}.`)).sort((a, b) => b.length - a.length)[0];
    if (key === undefined) return undefined;
    at = at[key];
    rest = rest.slice(key.length + 1);
  }
  return at;
}

const shownValue = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "–");

// First what would change, then the question, then the deed.
async function reload(problems) {
  fill(problems);
  try {
    const planned = await post("/v1/config/reload", { dry_run: true });
    const lines = [...planned.added.map((name) => `+ ${name}`), ...Object.entries(planned.removed).map(([name, n]) => `- ${name} (${count(n)})`),
      ...planned.changes.map((each) => `${each.path}: ${shownValue(each.old)} → ${shownValue(each.new)}${each.needs_restart ? ` (${t("needs_restart")})` : ""}`)];
    const given = await ask({ title: t("action.reload"), text: lines.length ? many("ask.reload", lines.length) : t("reload_same"), lines });
    if (given === null) return;
    const done = await post("/v1/config/reload", given.reason ? { reason: given.reason } : {});
    say(t("reloaded", { n: count(done.changes.length) }));
    dispatchEvent(new Event("relay:changed"));
  } catch (problem) {
    if (problem instanceof Problem && problem.body.problems) {
      fill(problems, h("div", { class: "note bad" }, problem.message, h("ul", {}, problem.body.problems.map((each) => h("li", {}, h("code", {}, each))))));
    }
    failed(problem);
  }
}
