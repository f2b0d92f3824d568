// The frame around every page: header, navigation, which page an address means, login, language and theme.

import { end, get, now, Problem } from "./api.js";
import { button, currentSession, failed, may, say, setSession } from "./actions.js";
import { fill, h, link, put } from "./dom.js";
import * as live from "./live.js";
import * as alerts from "./pages/alerts.js";
import * as audit from "./pages/audit.js";
import * as callback from "./pages/callback.js";
import * as callbacks from "./pages/callbacks.js";
import * as config from "./pages/config.js";
import * as deadLetters from "./pages/dead_letters.js";
import * as hosts from "./pages/hosts.js";
import * as login from "./pages/login.js";
import * as operations from "./pages/operations.js";
import * as overview from "./pages/overview.js";
import * as reconcile from "./pages/reconcile.js";
import * as platform from "./pages/platform.js";
import { count, language, loadWords, otherLanguage, refreshTimes, remember, t, time } from "./words.js";

// [address, name in data-page, module, stands in the navigation]; the first two are for who sees totals alone
const TOTALS_ALONE = 2;
const AGAIN_MS = 2000;
const TIMES_MS = 5000;
const STALE_MS = 2500; // shorter is a stream that passes from one tab to another
const PAGES = [
  [/^\/(?:ui\/?)?$/, "overview", overview, "/ui/"],
  [/^\/ui\/platforms\/([^/]+)$/, "platform", platform, null],
  [/^\/ui\/callbacks$/, "callbacks", callbacks, "/ui/callbacks"],
  [/^\/ui\/callbacks\/([^/]+)$/, "callback", callback, null],
  [/^\/ui\/dead-letters$/, "dead-letters", deadLetters, "/ui/dead-letters"],
  [/^\/ui\/operations$/, "operations", operations, "/ui/operations"],
  [/^\/ui\/alerts$/, "alerts", alerts, "/ui/alerts"],
  [/^\/ui\/reconcile$/, "reconcile", reconcile, "/ui/reconcile"],
  [/^\/ui\/config$/, "config", config, "/ui/config"],
  [/^\/ui\/audit$/, "audit", audit, "/ui/audit"],
  [/^\/ui\/hosts$/, "hosts", hosts, "/ui/hosts"],
];

const main = document.querySelector("main");
let leave = null; // ends what the page shown now has going
let shared = false; // whether there are other hosts to show
let turn = 0; // a page that is overtaken by the next click shows nothing
let failedToShow = false; // for want of an answer: shown as soon as there is one

async function show(focus = false) {
  const mine = ++turn;
  if (leave) leave();
  leave = null;
  failedToShow = false;
  const path = location.pathname;
  const [pattern, name, page] = PAGES.find(([each]) => each.test(path)) || [null, "", null];
  navigation(name);
  delete main.dataset.page;
  if (!page) { fill(main, h("h1", {}, t("no_page")), h("p", {}, link("/ui/", t("page.overview")))); return; }
  document.title = `${t(`page.${name}`)} · relay`;
  const params = pattern.exec(path).slice(1).map(decodeURIComponent);
  const box = h("div");
  const query = new URLSearchParams(location.search);
  const ends = [];
  const shown = () => { if (mine === turn) main.dataset.page = name; };
  leave = () => ends.forEach((each) => each());
  try {
    const built = page.show(box, { params, query, ends, shown, current: () => mine === turn });
    if (mine === turn) fill(main, box);
    if (focus) main.focus({ preventScroll: true });
    await built;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (mine !== turn) return;
    failedToShow = problem.status === 0;
    fill(main, h("h1", {}, t(`page.${name}`)), h("p", { class: "note bad" }, problem.message || t("problem.unreachable")));
    shown();
  }
}

export function go(address) {
  history.pushState(null, "", address);
  say(""); // what was done on the page before is read
  show(true);
}

function navigation(current) {
  const nav = document.querySelector("nav");
  nav.setAttribute("aria-label", t("navigation"));
  fill(nav, (may("view") ? PAGES : PAGES.slice(0, TOTALS_ALONE)).filter(([, name, , href]) => href && (shared || name !== "hosts")).map(([, name, , href]) =>
    h("a", { href, "aria-current": name === current ? "page" : null }, t(`page.${name}`),
      h("span", { class: "n", "data-nav": name }))));
  const here = nav.querySelector("[aria-current]");
  if (here) nav.scrollLeft = here.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2; // on a phone it scrolls sideways
  badges();
}

const badge = { "dead-letters": 0, alerts: 0 };
function badges() {
  for (const [name, n] of Object.entries(badge)) {
    const shown = document.querySelector(`[data-nav="${name}"]`);
    if (shown) put(shown, n ? count(n) : "");
  }
}

function header() {
  const theme = () => document.documentElement.dataset.theme;
  const { name, role, login: asked } = currentSession();
  fill(document.querySelector("header"),
    h("a", { href: "#main", class: "skip" }, t("skip")), h("b", {}, "relay"), h("small", {}, location.host),
    h("span", { class: "spacer" }),
    name ? h("small", {}, asked ? `${name} · ${role}` : t("without_login")) : null,
    h("button", { type: "button", "data-action": "language", lang: otherLanguage(), onclick: switchLanguage },
      otherLanguage() === "en" ? "English" : "中文"),
    h("button", { type: "button", "data-action": "theme", "aria-label": t("theme"), title: t("theme"), onclick: () => {
      document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
      remember("theme", theme());
      dispatchEvent(new Event("relay:theme"));
    } }, "◐"),
    asked ? button("logout", t("logout"), logOut) : null);
}

async function switchLanguage() {
  document.documentElement.lang = otherLanguage();
  remember("lang", language());
  await loadWords();
  header();
  if (currentSession().name) show(); else askToken();
}

async function logOut() {
  try { await end("/v1/session"); } catch (problem) { failed(problem); return; }
  askToken();
}

function askToken(why = "") {
  turn += 1;
  document.querySelectorAll("dialog").forEach((each) => each.close());
  telling(null);
  if (leave) leave();
  leave = null;
  live.stop();
  setSession({ may: [], name: "", role: "", login: false });
  header();
  document.querySelector("nav").replaceChildren();
  document.title = `${t("page.login")} · relay`;
  login.show(main, begin, why);
}

async function begin() {
  try {
    setSession(await get("/v1/session"));
  } catch (problem) {
    if (problem.status === 401) { askToken(); return; }
    header();
    fill(main, h("p", { class: "note bad" }, problem.message || t("problem.unreachable")));
    setTimeout(begin, AGAIN_MS);
    return;
  }
  say("");
  shared = may("view") && (await get("/v1/hosts").catch(() => ({ items: [] }))).items.length > 0;
  header();
  live.start();
  await show();
}

addEventListener("popstate", () => show());
addEventListener("relay:changed", () => show());
addEventListener("relay:logged-out", () => { if (currentSession().name) askToken(t("session_ended")); });
addEventListener("relay:go", (event) => go(event.detail));
document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href]");
  if (!anchor || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const target = new URL(anchor.href);
  if (target.origin !== location.origin || !/^\/(ui\/|ui$|$)/.test(target.pathname) || target.hash) return;
  event.preventDefault();
  go(target.pathname + target.search);
});

// Whatever page is shown: since when nothing of it is news, or a shared store is away.
let staleTimer = 0;
function telling(state) {
  const box = document.querySelector("[data-stale]");
  if (!state || !state.problem) {
    clearTimeout(staleTimer);
    staleTimer = 0;
    const away = state && state.ledger && state.ledger.away;
    box.hidden = !away;
    if (away) fill(box, t("store_away"), " ", time(away.since), t("stop"), away.as_of ? [t("store_as_of"), " ", time(away.as_of), t("stop")] : t("store_silent"));
  } else if (!staleTimer) {
    const since = new Date(now()).toISOString();
    staleTimer = setTimeout(() => {
      fill(box, t("stale"), " ", time(since), t("stop"), t("stale_again"));
      box.hidden = false;
    }, STALE_MS);
  }
}

live.watch((state) => {
  telling(state);
  if (failedToShow && !state.problem) show();
  badge["dead-letters"] = state.platforms.reduce((sum, each) => sum + each.dead, 0);
  badge.alerts = state.alerts.length;
  badges();
});

await loadWords();
setInterval(refreshTimes, TIMES_MS);
await begin();
