// How things stand now: one fetch for all parts of the page, every two seconds, none while the tab is hidden.

import { get } from "./api.js";

const EVERY_MS = 2000;
const listeners = new Set();
let state = null;
let timer = 0;
let running = false;

async function poll() {
  clearTimeout(timer);
  if (!running || document.hidden) return;
  try {
    const [platforms, ledger, alerts] = await Promise.all([get("/v1/platforms"), get("/v1/ledger"), get("/v1/alerts")]);
    state = { platforms: platforms.items, ledger, alerts: alerts.items.filter((each) => each.status === "firing"), problem: null };
  } catch (problem) {
    state = { platforms: [], ledger: null, alerts: [], ...state, problem };
  }
  for (const each of [...listeners]) each(state);
  if (running) timer = setTimeout(poll, EVERY_MS);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

export function start() {
  if (running) return;
  running = true;
  poll();
}

export function stop() {
  running = false;
  state = null;
  clearTimeout(timer);
}

export const refresh = () => poll();

// Calls `listener` with the state now, where it is known, and whenever it was fetched; returns what ends that.
export function watch(listener) {
  listeners.add(listener);
  if (state && state.ledger) listener(state);
  return () => listeners.delete(listener);
}
