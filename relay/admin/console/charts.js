// What happened lately, as charts by uPlot. Each has the same figures as a table behind a button.

import uPlot from "./vendor/uplot.js";

import { get, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, count, duration, language, rate, t } from "./words.js";

const EVERY_MS = 30000;
const ROWS_SHOWN = 60;
const perSecond = (row, value, step) => (value === null ? null : value / step);

// [name in data-chart, columns, their colours, how a value is derived, how it is written]
const CHARTS = [
  ["rate", ["accepted", "delivered"], [1, 2], perSecond, rate],
  ["backlog", ["pending"], [1], null, count],
  ["latency", ["oldest_due_s"], [3], null, duration],
  ["batches", ["requests", "refused", "failed"], [2, 3, 4], null, count],
  ["bytes", ["raw_bytes", "wire_bytes"], [5, 1], null, bytes],
];

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
        told = await get(`/v1/platforms/${encodeURIComponent(platform)}/series`, { since: "2h", step: "1m" });
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

function part(name, columns, colours, derived, written) {
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
    const at = series.rows.map((_, n) => start + n * series.step_s);
    const values = columns.map((column) => {
      const from = series.columns.indexOf(column);
      return series.rows.map((row) => (derived ? derived(row, row[from], series.step_s) : row[from]));
    });
    if (plot) plot.destroy();
    plot = new uPlot(options(place.clientWidth, colours, written), [at, ...values], place);
    fill(rows, figures(columns, at, values, written));
  };
  const end = () => { if (plot) plot.destroy(); };
  return { card: h("section", { class: "card" }, h("h2", {}, t(`chart.${name}`)), place, legend, rows), draw, end };
}

function options(width, colours, written) {
  const axis = { stroke: colour("--ink-3"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  return {
    width: Math.max(200, width), height: 150, legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [{ ...axis, values: (_, at) => at.map(clock) }, { ...axis, size: 64, values: (_, list) => list.map(written) }],
    series: [{}, ...colours.map((n) => ({ stroke: colour(`--series-${n}`), width: 2, points: { show: false } }))],
  };
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString(language(), { hour: "2-digit", minute: "2-digit" });

function figures(columns, at, values, written) {
  const head = h("tr", {}, h("th", { scope: "col" }, t("minute")), columns.map((each) => h("th", { scope: "col", class: "n" }, t(`series.${each}`))));
  const lines = at.map((each, n) => h("tr", {}, h("th", { scope: "row" }, clock(each)), values.map((list) => h("td", { class: "n" }, list[n] === null ? "–" : written(list[n])))));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, lines.slice(-ROWS_SHOWN).reverse()));
}
