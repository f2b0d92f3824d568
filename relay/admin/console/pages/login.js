// The one thing a stranger sees: a form for a token.

import { post } from "../api.js";
import { failed, say } from "../actions.js";
import { fill, h } from "../dom.js";
import { t } from "../words.js";

// `why`: what ended the session before, in words.
export function show(main, done, why = "") {
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password" });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      await post("/v1/session", { token: token.value });
    } catch (problem) {
      token.value = "";
      failed(problem);
      return;
    }
    say("");
    await done();
  } },
  h("label", {}, t("token"), token),
  h("button", { type: "submit", "data-action": "login", class: "first" }, t("login")));
  fill(main, h("section", { class: "card login" }, h("h1", {}, t("page.login")), why ? h("p", { class: "note", role: "alert" }, why) : null, h("p", { class: "sub" }, t("login_text")), form));
  main.dataset.page = "login";
  token.focus();
}
