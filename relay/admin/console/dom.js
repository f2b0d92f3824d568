// Makes elements. Every text becomes a text node: nothing that comes from a payload is ever read as markup.

export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "width") made.style.width = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  add(made, children);
  return made;
}

export function add(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return parent;
}

export function fill(parent, ...children) {
  parent.replaceChildren();
  return add(parent, children);
}

// Returns what draws a part of a page anew, but only when `key`, the data it shows, is not what it was: so nobody loses
// a selection, the focus or what hovers twice a second.
export function redrawn(box) {
  let drawn = null;
  return (key, make) => {
    const wanted = JSON.stringify(key);
    if (wanted === drawn) return;
    drawn = wanted;
    fill(box, make(key));
    box.hidden = box.childNodes.length === 0;
  };
}

// Changes a text only where it differs, so that a selection or a screen reader is not disturbed twice a second.
export function put(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

export const link = (href, ...children) => h("a", { href }, ...children);

export function card(title, ...children) {
  return h("section", { class: "card" }, title ? h("h2", {}, title) : null, ...children);
}

// A table that becomes a list on a phone. Columns: {label, n: right-aligned, wide}.
export function table(columns, rows, name) {
  const head = h("tr", {}, columns.map((each) => h("th", { scope: "col", class: each.n ? "n" : null }, each.label)));
  const body = h("tbody", {}, rows);
  const made = h("table", { class: "rows" }, h("thead", {}, head), body);
  return { box: h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, made), body };
}

export function row(columns, cells, props = {}) {
  return h("tr", props, columns.map((column, place) =>
    h("td", { class: column.n ? "n" : column.wide ? "wide" : null, "data-label": column.label, "data-field": column.field },
      cells[place])));
}

export function pairs(list) {
  return h("table", {}, h("tbody", {}, list.filter(Boolean).map(([name, ...value]) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));
}
