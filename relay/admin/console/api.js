// Talks to the relay. A problem (RFC 9457) becomes an error with its code and detail.

let skew = 0; // how far the relay's clock is ahead of the browser's, in ms

export const now = () => Date.now() + skew;

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `HTTP ${status}`);
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
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem(0, { code: "unreachable", detail: "" });
  }
  const date = Date.parse(answer.headers.get("Date") || "");
  if (date) skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0; // the header has whole seconds
  const text = await answer.text();
  let told = {};
  try { told = text ? JSON.parse(text) : {}; } catch { told = { detail: text.slice(0, 200) }; }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/v1/session") dispatchEvent(new Event("relay:logged-out"));
    throw new Problem(answer.status, told);
  }
  return told;
}

export const get = (path, query = {}) => {
  const text = new URLSearchParams(query).toString();
  return ask("GET", text ? `${path}?${text}` : path);
};
export const post = (path, body = {}) => ask("POST", path, body);
export const end = (path) => ask("DELETE", path);
