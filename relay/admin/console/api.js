// Talks to the relay. A problem (RFC 9457) becomes an error with its code and detail.

const PATIENCE_MS = 20000; // for a look; a change may take as long as it takes
let skew = 0; // how far the relay's clock is ahead of the browser's, in ms

export const now = () => Date.now() + skew;

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || (status ? `HTTP ${status}` : "")); // without an answer the page has its own words
    this.status = status;
    this.code = body.code || "";
    this.body = body;
  }
}

async function ask(method, path, body) {
  const options = { method, headers: { "Accept-Language": document.documentElement.lang }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  if (method === "GET") options.signal = AbortSignal.timeout(PATIENCE_MS);
  let answer;
  let text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch {
    throw new Problem(0, { code: "unreachable", detail: "" });
  }
  const date = Date.parse(answer.headers.get("Date") || "");
  if (date) skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0; // the header has whole seconds
  let told = {};
  try { told = text ? JSON.parse(text) : {}; } catch { told = { detail: text.slice(0, 200) }; }
  if (!answer.ok) {
    const problem = new Problem(answer.status, told);
    problem.loggedOut = answer.status === 401 && path !== "/v1/session";
    if (problem.loggedOut) dispatchEvent(new Event("relay:logged-out")); // the login then says why
    throw problem;
  }
  return told;
}

export const get = (path, query = {}) => {
  const text = new URLSearchParams(query).toString();
  return ask("GET", text ? `${path}?${text}` : path);
};
export const post = (path, body = {}) => ask("POST", path, body);
export const end = (path) => ask("DELETE", path);
