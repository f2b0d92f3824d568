// What happened lately, as charts by uPlot. Each has the same figures as a table behind a button.

import uPlot from "./vendor/uplot.js";

import { get, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, count, duration, language, rate, t } from "./words.js";

const EVERY_MS = 30000;
const ROWS_SHOWN = 60;
const SHORT_ROWS = 15; // minutes
const LEAST_ROWS = 24; // of 5 s
const FEW = 3; // points that are no line yet

// [name in data-chart, columns, their colours, the seconds that a count is for (null: it is none), how it is written]
const CHARTS = [
  ["rate", ["accepted", "delivered"], [1, 2], 1, rate],
  ["backlog", ["pending"], [1], null, count],
  ["latency", ["oldest_due_s"], [3], null, duration],
  ["batches", ["requests", "refused", "failed"], [2, 3, 4], 60, count],
  ["bytes", ["raw_bytes", "wire_bytes"], [5, 1], 60, bytes],
];

// Two hours in minutes; of a relay that has not run for long the last quarter of an hour, as closely as it is known.
async function seriesOf(platform) {
  const path = `/v1/platforms/${encodeURIComponent(platform)}/series`;
  const told = await get(path, { since: "2h", step: "1m" });
  return told.rows.slice(0, -SHORT_ROWS).some((row) => row.some((value) => value !== null)) ? told : get(path, { step: "5s" });
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function charts(platform, ends, wanted = CHARTS.map(([name]) => name)) {
  const parts = CHARTS.filter(([name]) => wanted.includes(name)).map((each) => part(...each));
  const box = h("div", { class: "grid" }, parts.map((each) => each.card));
  let timer = 0;
  let ended = false;
  let told = null;
  const draw = () => { if (told) parts.forEach((each) => each.draw(told)); };
  const update = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        told = await seriesOf(platform);
        if (!ended) draw();
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem; // the page stands without; it is tried again
      }
    }
    if (!ended) timer = setTimeout(update, EVERY_MS);
  };
  addEventListener("relay:theme", draw);
  addEventListener("resize", draw);
  ends.push(() => {
    ended = true;
    clearTimeout(timer);
    removeEventListener("relay:theme", draw);
    removeEventListener("resize", draw);
    parts.forEach((each) => each.end());
  });
  update();
  return box;
}

function part(name, columns, colours, each_s, written) {
  const heading = h("h2", {}, t(`chart.${name}`));
  const place = h("div", { "data-chart": name, role: "img", "aria-label": t(`chart.${name}`) });
  const rows = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t(`chart.${name}`), hidden: true });
  const toggle = h("button", { type: "button", "data-action": "table", "aria-expanded": "false", onclick: () => {
    rows.hidden = !rows.hidden;
    toggle.setAttribute("aria-expanded", String(!rows.hidden));
  } }, t("as_table"));
  const legend = h("div", { class: "legend" }, columns.map((column, n) =>
    h("span", {}, h("i", { class: `dot s${colours[n]}` }), t(`series.${column}`))), toggle);
  let plot = null;
  const draw = (series) => {
    const start = Date.parse(series.from) / 1000;
    // The running minute has not counted all of it yet; a relay that began lately shows nothing before that.
    const whole = each_s === null ? series.rows : series.rows.slice(0, -1);
    const began = series.step_s < 60 ? Math.max(0, Math.min(whole.findIndex((row) => row.some((value) => value !== null)), whole.length - LEAST_ROWS)) : 0;
    const kept = whole.slice(began);
    const at = kept.map((_, n) => start + (began + n) * series.step_s);
    const values = columns.map((column) => {
      const from = series.columns.indexOf(column);
      return kept.map((row) => (each_s === null || row[from] === null ? row[from] : (row[from] * each_s) / series.step_s));
    });
    heading.textContent = `${t(`chart.${name}`)} · ${t(began ? "span.start" : series.step_s < 60 ? "span.15m" : "span.2h")}`;
    if (plot) plot.destroy();
    plot = new uPlot(options(place.clientWidth, colours, written, values, series.step_s), [at, ...values], place);
    fill(rows, figures(columns, at, values, written, series.step_s));
  };
  const end = () => { if (plot) plot.destroy(); };
  return { card: h("section", { class: "card" }, heading, place, legend, rows), draw, end };
}

function options(width, colours, written, values, step_s) {
  const axis = { stroke: colour("--ink-3"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  return {
    width: Math.max(200, width), height: 150, legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [{ ...axis, space: 70, values: (_, at) => at.map((each) => clock(each, step_s)) }, { ...axis, size: 64, values: (_, list) => list.map(written) }],
    series: [{}, ...colours.map((n, place) => ({ stroke: colour(`--series-${n}`), width: 2,
      points: { show: values[place].filter((each) => each !== null).length < FEW } }))],
  };
}

const clock = (at, step_s) => new Date(at * 1000).toLocaleTimeString(language(),
  { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(step_s < 60 ? { second: "2-digit" } : {}) });

function figures(columns, at, values, written, step_s) {
  const head = h("tr", {}, h("th", { scope: "col" }, t("when")), columns.map((each) => h("th", { scope: "col", class: "n" }, t(`series.${each}`))));
  const lines = at.map((each, n) => h("tr", {}, h("th", { scope: "row" }, clock(each, step_s)), values.map((list) => h("td", { class: "n" }, list[n] === null ? "–" : written(list[n])))));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, lines.slice(-ROWS_SHOWN).reverse()));
}
