// The hosts that share the store: who is there, and which platforms each sends for.

import { get } from "../api.js";
import { card, fill, h, link, row, table } from "../dom.js";
import { count, t, time } from "../words.js";

export async function show(box, { shown }) {
  const page = await get("/v1/hosts");
  const columns = [{ label: t("host") }, { label: t("state") }, { label: t("host_platforms"), wide: true },
    { label: t("heard") }, { label: t("spooled"), n: true }, { label: t("in_its_history"), n: true }, { label: t("version") }];
  const rows = page.items.map((host) => row(columns, [host.name, [t(`host.${host.state}`),
    host.state === "mismatch" ? h("small", {}, t("host_mismatch", { by: page.published_by })) : null],
  host.platforms.map((name, place) => [place ? ", " : "", link(`/ui/platforms/${encodeURIComponent(name)}`, name)]),
  time(host.heard_at), count(host.spooled), host.history === null ? "-" : count(host.history), host.version], { "data-host": host.name }));
  const unowned = page.unowned || [];
  fill(box, h("h1", {}, t("page.hosts")), h("p", { class: "sub" }, page.items.length ? t("hosts_text") : t("hosts_alone")),
    unowned.length ? h("p", { class: "note bad" }, t("unowned", { names: unowned.join(", ") })) : null,
    page.items.length ? card(null, table(columns, rows, t("page.hosts")).box) : null);
  shown();
}
