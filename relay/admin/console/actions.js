// Every change: asked for in a dialog with a reason (and the count, for more than one match), done, and told in words.

import { Problem, post } from "./api.js";
import { h, put } from "./dom.js";
import { count, has, many, t } from "./words.js";

let session = { may: [], name: "", role: "", login: false };

export const setSession = (told) => { session = told; };
export const currentSession = () => session;
export const may = (permission) => session.may.includes(permission);

const ROLES = { operate: "operator, admin", reveal: "privacy, admin" };

// A button. What the role may not do is shown disabled, with the reason; `why` does the same for any other reason.
export function button(action, label, onclick, { needs = null, first = false, why = "" } = {}) {
  const refused = needs && !may(needs) ? t("needs_role", { roles: ROLES[needs] }) : why;
  const made = h("button", { type: "button", "data-action": action, class: first ? "first" : null, onclick }, label);
  if (!refused) return made;
  made.disabled = true;
  made.title = refused;
  const id = `why-${action}-${Math.random().toString(36).slice(2)}`;
  made.setAttribute("aria-describedby", id);
  return h("span", {}, made, h("span", { id, class: "hidden" }, refused));
}

export function say(text, kind = "ok") {
  const box = document.querySelector("[data-result]");
  box.className = `result ${kind}`;
  put(box, text);
}

export function failed(problem) {
  if (!(problem instanceof Problem)) throw problem;
  if (problem.loggedOut) return;
  const known = has(`problem.${problem.code}`) ? t(`problem.${problem.code}`, problem.body) : "";
  say([known, problem.message].filter(Boolean).join(" "), "bad");
}

function field(name, label, props = {}, hint = "") {
  return h("label", {}, label, h("input", { name, autocomplete: "off", ...props }), hint ? h("small", {}, hint) : null);
}

// Asks; resolves to the values, or to null where it was cancelled. `matched`: how many callbacks it is about.
export function ask({ title, text = "", lines = [], matched = null, rate = false, fields = [] }) {
  return new Promise((resolve) => {
    const typed = matched !== null && matched > 1;
    const confirm = h("button", { type: "submit", "data-action": "confirm", class: "first" }, title);
    const cancel = h("button", { type: "button", "data-action": "cancel", onclick: () => dialog.close() }, t("cancel"));
    const form = h("form", { method: "dialog" },
      h("h2", { id: "ask-title" }, title),
      text ? h("p", { class: "sub" }, text) : null,
      lines.length ? h("ul", { tabindex: "0" }, lines.map((line) => h("li", {}, line))) : null,
      field("reason", t("reason"), { required: true, maxlength: "500" }),
      typed ? field("count", t("type_count", { n: count(matched) }), { inputmode: "numeric", required: true, pattern: ` *${[...String(matched)].join("\\D?")} *`, title: count(matched) }) : null,
      rate ? field("rate", t("rate_optional"), { placeholder: "50/min" }) : null,
      fields.map(({ name, label, ...props }) => field(name, label, props)),
      h("div", { class: "actions" }, cancel, confirm));
    const dialog = h("dialog", { "data-confirm": "", "aria-labelledby": "ask-title" }, form);
    let given = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      given = Object.fromEntries(new FormData(form));
      dialog.close();
    });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(given); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Asks, does it, tells what came of it, and shows the page anew.
export async function change(question, deed, told) {
  const values = await ask(question);
  if (values === null) return;
  try {
    const result = await deed(values);
    say(typeof told === "function" ? told(result) : told);
    dispatchEvent(new Event("relay:changed"));
  } catch (problem) {
    failed(problem);
  }
}

// One action over everything that `filter` matches: counted first, then asked, then started with that very count.
export async function operation(action, filter, extra = {}) {
  try {
    const { matched } = await post("/v1/operations", { action, filter, ...extra, dry_run: true });
    if (matched === 0) { say(t("nothing_matches"), "bad"); return; }
    await change(
      { title: t(`action.${action}`), text: many(`ask.${extra.as ? `${action}_${extra.as}` : action}`, matched), matched, rate: action === "retry" },
      ({ reason, rate }) => post("/v1/operations",
        { action, filter, ...extra, expect_count: matched, ...(reason ? { reason } : {}), ...(rate ? { rate } : {}) }),
      (started) => t("operation_started", { id: started.id, n: count(matched) }));
  } catch (problem) {
    failed(problem);
  }
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say(t("copied"));
  } catch {
    say(t("copy_failed", { text }), "bad");
  }
}
