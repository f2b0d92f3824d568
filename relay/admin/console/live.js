// How things stand now. One stream of events serves all tabs of a browser: the tab that holds the lock reads it and tells
// the others, because a browser opens six connections to a server at most. A hidden tab neither reads nor is told.

import { get, Problem } from "./api.js";

const NAME = "relay.live";
const AGAIN_MS = 2000;
const STILL_THERE_MS = 15000; // a stream that a dead connection holds open is silent, and looks as if nothing changed
const listeners = new Set();
const channel = new BroadcastChannel(NAME);
let state = null; // platforms, ledger, alerts that fire; problem: the stream is broken
let running = false;
let joined = null; // aborts what this tab has going
let reading = false;

// Without alerts: the role sees totals alone.
const firing = (alerts) => (alerts ? alerts.items.filter((each) => each.status === "firing") : []);

// What each event makes of the state before.
const CHANGES = {
  state: (told) => ({ platforms: told.platforms ? told.platforms.items : [], ledger: told.ledger || null, alerts: firing(told.alerts) }),
  platforms: ({ items, gone }) => {
    const changed = new Map(items.map((each) => [each.name, each]));
    const kept = state.platforms.filter((each) => !gone.includes(each.name)).map((each) => {
      const found = changed.get(each.name) || each;
      changed.delete(each.name);
      return found;
    });
    return { platforms: [...kept, ...changed.values()] };
  },
  ledger: (told) => ({ ledger: { ...state.ledger, ...told, away: told.away, platforms: { ...state.ledger.platforms, ...told.platforms } } }),
  alerts: (told) => ({ alerts: firing(told) }),
};

function tell(next) {
  state = next;
  for (const each of [...listeners]) each(state);
}

function read(signal) {
  return new Promise((done) => {
    const source = new EventSource("/v1/events");
    const timer = setInterval(() => get("/v1/session").catch(lost), STILL_THERE_MS);
    const end = () => { clearInterval(timer); source.close(); reading = false; done(); };
    const pass = (next) => { tell(next); channel.postMessage({ state }); };
    const lost = () => {
      if (signal.aborted) return;
      pass({ platforms: [], ledger: null, alerts: [], ...state, problem: true });
      part();
      again();
    };
    reading = true;
    signal.addEventListener("abort", end);
    for (const [name, change] of Object.entries(CHANGES)) {
      source.addEventListener(name, (event) => pass({ ...state, ...change(JSON.parse(event.data)), problem: false }));
    }
    source.addEventListener("error", lost);
  });
}

// Asks once, which tells whether the session has ended, and reads again a little later.
async function again() {
  try {
    await get("/v1/ledger");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
  }
  setTimeout(join, AGAIN_MS);
}

function join() {
  if (!running || document.hidden || joined) return;
  joined = new AbortController();
  const { signal } = joined;
  channel.postMessage({ ask: true });
  if (!navigator.locks) { read(signal); return; } // plain http under a name: each tab reads for itself
  navigator.locks.request(NAME, { signal }, () => (signal.aborted ? null : read(signal))).catch((error) => {
    if (error.name !== "AbortError") throw error;
  });
}

function part() {
  if (joined) joined.abort();
  joined = null;
}

channel.addEventListener("message", ({ data }) => {
  if (data.ask) { if (reading && state) channel.postMessage({ state }); } else if (joined && !reading) tell(data.state);
});
addEventListener("pagehide", part); // before the browser ends the stream, which would look like a fault
addEventListener("pageshow", join);
document.addEventListener("visibilitychange", () => { if (document.hidden) part(); else join(); });

export function start() {
  running = true;
  join();
}

export function stop() {
  running = false;
  part();
  state = null;
}

// What is known to stand now; null before the stream has told.
export const current = () => (state && !state.problem ? state : null);

// Calls `listener` whenever something changed, and at once with the state now where it is known; returns what ends that.
export function watch(listener, { atOnce = true } = {}) {
  listeners.add(listener);
  if (atOnce && state) listener(state);
  return () => listeners.delete(listener);
}
