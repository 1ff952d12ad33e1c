"use strict";
/* The page: what the memory holds, plain CLIP and reco side by side. Its state is the address, so that Back works; pictures that are
   asked with live in `pictures`, by a number that stands there. */

const $ = (id) => document.getElementById(id);
const pictures = new Map();
let server = {}, shards = 0, latest = 0;

/* An element; children are elements or texts, never markup. */
function make(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c != null));
  return e;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

async function ask(method, path, body) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401) {
    await askToken();
    return ask(method, path, body);
  }
  if (response.headers.get("Content-Type") === "image/jpeg") return response.blob();
  const answer = await response.json().catch(() => ({ error: "the server's answer can't be read" }));
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

let asking = null;
function askToken() {
  asking ??= new Promise((resolve) => {
    $("token").showModal();
    $("token-form").addEventListener("submit", () => {
      sessionStorage.setItem("token", $("token-value").value);
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

/* ---- the state in the address ---- */

function state() {
  const p = new URLSearchParams(location.hash.slice(1));
  return {
    view: p.get("view") || "search", text: p.get("text") || "", id: p.get("id"), picture: p.get("picture"),
    in: p.get("in") || "image", bank: p.get("bank"), where: p.getAll("where"), classes: p.get("classes") || "",
  };
}

function go(change) {
  const next = { ...state(), ...change }, p = new URLSearchParams();
  for (const [key, value] of Object.entries(next)) {
    if (Array.isArray(value)) value.forEach((v) => p.append(key, v));
    else if (value) p.set(key, value);
  }
  const hash = "#" + p;
  if (hash === location.hash) show();
  else location.hash = hash;
}

/* ---- pieces ---- */

function row(id) {
  return `bank=${encodeURIComponent($("bank").value)}&id=${id}`;
}

/* An <img> whose picture comes with the token, if there is one. */
function picture(id, edge, className, alt) {
  const img = make("img", { class: className, alt, loading: "lazy", width: edge, height: edge });
  const missing = () => img.replaceWith(make("span", { class: className + " none" }, "no picture"));
  const path = `/v1/pictures?${row(id)}&edge=${edge}`;
  img.addEventListener("error", missing);
  if (!sessionStorage.getItem("token")) img.src = path;
  else ask("GET", path).then((blob) => { img.src = URL.createObjectURL(blob); }, missing);
  return img;
}

function number(x) {
  return x == null ? "" : Number(x).toFixed(3);
}

function card(hit, rank, others, mixture) {
  const before = others ? others.findIndex((o) => o.id === hit.id) : rank;
  let moved = null;
  if (others && before < 0) moved = make("span", { class: "moved fresh" }, "new");
  else if (before > rank) moved = make("span", { class: "moved" }, `▲ ${before - rank}`);
  const score = mixture ? `${(100 * hit.score).toFixed(1)} %` : number(hit.score);
  return make("li", {},
    make("button", { type: "button", class: "card", onclick: () => detail(hit) },
      picture(hit.id, 256, "picture", ""),
      make("span", { class: "words" }, hit.caption, make("span", { class: "score" }, score, moved))));
}

function column(title, hits, others, mixture) {
  return make("section", { "aria-label": title }, make("h2", {}, title),
    make("ol", { class: "grid" }, ...hits.map((hit, i) => card(hit, i, others, mixture))));
}

function neighbours(told) {
  if (!told || told.error || !told.neighbours || !told.neighbours.length)
    return make("p", {}, "No row of the memory took part: this side is not refined, or no row was near enough.");
  return make("ul", { class: "bars" },
    make("li", {}, make("div", { class: "label" }, make("span", {}, "the query itself"), make("span", {}, number(told.own))),
      make("meter", { min: 0, max: 1, value: told.own, "aria-label": "weight of the query itself" })),
    ...told.neighbours.map((n) => make("li", {},
      make("div", { class: "label" },
        make("button", { type: "button", onclick: () => detail(n) }, n.caption), make("span", {}, `${number(n.weight)} (cosine ${number(n.score)})`)),
      make("meter", { min: 0, max: 1, value: n.weight, "aria-label": "weight of " + n.caption }))));
}

/* ---- a row ---- */

function detail(hit) {
  const facts = [["id", hit.id], ["uri", hit.uri]];
  for (const name of ["score", "plain", "refined", "weight"]) if (hit[name] != null) facts.push([name, number(hit[name])]);
  for (const [name, value] of Object.entries(hit.meta || {})) facts.push([name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  const remove = make("button", { type: "button", onclick: () => erase(hit) }, "Delete");
  $("detail-title").textContent = hit.caption;
  $("detail-body").replaceChildren(
    picture(hit.id, 1024, "large", hit.caption),
    make("table", {}, make("tbody", {}, ...facts.filter(([, v]) => v != null).map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, String(value)))))),
    make("div", { class: "actions" },
      make("button", { type: "button", onclick: () => { $("detail").close(); go({ view: "search", id: hit.id, text: "", picture: "", in: "image" }); } }, "More pictures like this"),
      make("button", { type: "button", onclick: () => { $("detail").close(); go({ view: "search", id: hit.id, text: "", picture: "", in: "text" }); } }, "More captions like this"),
      server.read_only ? null : remove));
  if (!$("detail").open) $("detail").showModal();
}

async function erase(hit) {
  if (!confirm(`Delete "${hit.caption}" from the bank?`)) return;
  try {
    await ask("DELETE", "/v1/pairs", { bank: $("bank").value, ids: [hit.id] });
    $("detail").close();
    await about();
    show();
    say(`Row ${hit.id} is deleted.${shards ? "" : ' "reco bank undelete" restores it until the bank is compacted.'}`);
  } catch (e) {
    say(e.message, true);
  }
}

/* ---- filters: columns of the user's, with how many rows of the bank have each value ---- */

function quote(text) {
  return "'" + String(text).replaceAll("'", "''") + "'";
}

/* On PostgreSQL servers in their SQL. */
function condition(column, value) {
  if (shards) return `meta->${quote(column)} = ${quote(JSON.stringify(value))}::jsonb`;
  const path = quote('$."' + column.replaceAll('"', '\\"') + '"');
  return `json_extract(meta,${path}) = ${typeof value === "number" ? value : quote(value)}`;
}

async function showFilters(bank, where, turn) {
  const active = state().where;
  const told = await ask("GET", "/v1/facets?" + new URLSearchParams(where ? { bank, where } : { bank })).catch(() => ({ facets: [] }));
  if (turn !== latest) return;
  const buttons = active.map((where) => make("button", { type: "button", "aria-pressed": "true", onclick: () => go({ where: active.filter((w) => w !== where) }) }, where + " ×"));
  /* A value of one row says nothing that the row does not, and one of all rows nothing at all; columns of few values make the best filters. */
  for (const facet of told.facets.sort((a, b) => a.more - b.more || a.values.length - b.values.length))
    for (const { value, rows } of facet.values.filter((v) => v.rows > 1 && v.rows < told.rows && typeof v.value !== "boolean" && String(v.value).length < 40).slice(0, 8)) {
      const where = condition(facet.column, value);
      if (active.includes(where) || buttons.length > 32) continue;
      buttons.push(make("button", { type: "button", "aria-pressed": "false", onclick: () => go({ where: [...active, where] }) },
        `${facet.column}: ${value} (${rows})`));
    }
  $("filters").hidden = buttons.length === 0;
  $("filters").replaceChildren(make("span", {}, "Only: "), ...buttons);
}

/* ---- the three views ---- */

function query(s) {
  if (s.picture && pictures.has(s.picture)) return { image: pictures.get(s.picture) };
  if (s.id) return { id: Number(s.id) };
  return s.text ? { text: s.text } : null;
}

async function search(s, turn) {
  const asked = query(s);
  if (!asked) {
    $("results").replaceChildren();
    $("filters").hidden = true;
    say("");
    return;
  }
  const body = { ...asked, bank: $("bank").value, in: s.in, k: 24 };
  if (s.where.length) body.where = s.where.map((w) => `(${w})`).join(" AND ");
  say("Searching…");
  const [plain, refined] = await Promise.all([
    ask("POST", "/v1/search", { ...body, refine: false }),
    server.fusion ? ask("POST", "/v1/search", { ...body, refine: true, explain: true }) : null]);
  if (turn !== latest) return;
  const both = refined && refined.refined;
  const columns = make("div", { class: both ? "columns" : "columns one" }, column("CLIP alone", plain.hits));
  if (both) columns.append(column("With the memory", refined.hits, plain.hits, refined.mixture));
  $("results").replaceChildren(columns);
  if (both) $("results").append(make("details", {}, make("summary", {}, "What the memory added to the query"), neighbours(refined.explanation)));
  showFilters(body.bank, body.where, turn);
  const cut = plain.truncated ? " The text was longer than the model's context and was truncated." : "";
  const lost = (plain.missing_servers || []).length;
  const less = lost ? ` ${lost} server${lost === 1 ? " does" : "s do"} not answer, and their rows are missing.` : "";
  const n = plain.hits.length;
  say(`${n} ${s.in === "text" ? "caption" : "picture"}${n === 1 ? "" : "s"} found.${cut}${less}`);
}

function answers(title, list) {
  return make("section", { "aria-label": title }, make("h2", {}, title),
    make("ol", { class: "bars" }, ...list.map((a) => make("li", {},
      make("div", { class: "label" }, make("span", {}, a.label), make("span", {}, `${(100 * a.probability).toFixed(1)} %`)),
      make("meter", { min: 0, max: 1, value: a.probability, "aria-label": a.label })))));
}

async function classify(s, turn) {
  const classes = s.classes.split("\n").map((c) => c.trim()).filter(Boolean), image = pictures.get(s.picture);
  $("filters").hidden = true;
  if (!classes.length || !image) {
    $("results").replaceChildren();
    say("Choose a picture and enter the names of the classes.");
    return;
  }
  say("Classifying…");
  const told = await ask("POST", "/v1/classify", { bank: $("bank").value, image, classes, top: 5 });
  if (turn !== latest) return;
  const columns = make("div", { class: server.fusion ? "columns" : "columns one" }, answers("CLIP alone", told.clip));
  if (server.fusion) columns.append(answers("With the memory", told.reco));
  $("results").replaceChildren(columns);
  if (told.explanation) $("results").append(make("h2", {}, "What the memory added to the picture"), neighbours(told.explanation));
  say(`The most probable of ${classes.length}.`);
}

async function add() {
  const image = pictures.get(state().picture), text = $("caption").value.trim();
  if (!image || !text) {
    say("Choose a picture and enter its caption.", true);
    return;
  }
  say("Adding…");
  const told = await ask("POST", "/v1/pairs", { bank: $("bank").value, pairs: [{ image, text }] });
  await about();
  say(told.added ? `Added as row ${told.ids[0]}. All answers use it from now on.` : "The bank already has this picture with this caption.");
}

async function show() {
  const s = state(), turn = ++latest;
  for (const button of document.querySelectorAll("nav button")) button.setAttribute("aria-pressed", String(button.dataset.view === s.view));
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = part.dataset.for !== s.view;
  $("go").textContent = { search: "Search", classify: "Classify", add: "Add" }[s.view] || "Search";
  if (s.bank && s.bank !== $("bank").value) $("bank").value = s.bank;
  $("text").value = s.text;
  $("in").value = s.in;
  if (s.classes) $("classes").value = s.classes;
  const image = pictures.get(s.picture);
  $("query").hidden = !image && !s.id;
  if (image) {
    $("shown").src = image;
    $("shown").alt = "Picture of the query";
  } else if (s.id) {
    $("shown").src = `/v1/pictures?${row(s.id)}&edge=256`;
    $("shown").alt = `Row ${s.id}`;
  }
  try {
    if (s.view === "classify") await classify(s, turn);
    else if (s.view === "search") await search(s, turn);
    else {
      $("results").replaceChildren();
      $("filters").hidden = true;
      say("");
    }
  } catch (e) {
    if (turn === latest) say(e.message, true);
  }
}

/* ---- pictures: chosen, dropped, pasted ---- */

function take(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    const key = String(pictures.size + 1);
    pictures.set(key, reader.result);
    go({ picture: key, id: "", text: "", in: state().view === "search" ? "image" : state().in });
  });
  reader.readAsDataURL(file);
}

async function about() {
  const told = await ask("GET", "/v1/banks");
  server = told;
  const chosen = $("bank").value || state().bank;
  $("bank").replaceChildren(...told.banks.map((b) => make("option", { value: b.name }, b.name)));
  if (chosen) $("bank").value = chosen;
  const bank = told.banks.find((b) => b.name === $("bank").value) || told.banks[0];
  shards = bank ? bank.shards : 0;
  $("about").textContent = bank ? `${bank.rows.toLocaleString()} pairs; ${told.fusion ? "refined by the memory" : "CLIP alone, no fusion layer"}` : "no bank";
  $("to-add").hidden = told.read_only || !told.model;
}

addEventListener("hashchange", show);
addEventListener("paste", (e) => take([...e.clipboardData.files].find((f) => f.type.startsWith("image/"))));
addEventListener("dragover", (e) => { e.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (e) => { if (!e.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", (e) => {
  e.preventDefault();
  document.body.classList.remove("over");
  take([...e.dataTransfer.files].find((f) => f.type.startsWith("image/")));
});
$("file").addEventListener("change", (e) => { take(e.target.files[0]); e.target.value = ""; });
$("forget").addEventListener("click", () => go({ picture: "", id: "" }));
$("bank").addEventListener("change", () => { go({ bank: $("bank").value, where: [] }); about(); });
$("in").addEventListener("change", () => go({ in: $("in").value }));
for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => go({ view: button.dataset.view }));
$("ask").addEventListener("submit", (e) => {
  e.preventDefault();
  const view = state().view;
  if (view === "add") add().catch((error) => say(error.message, true));
  else if (view === "classify") go({ classes: $("classes").value });
  else if ($("text").value.trim()) go({ text: $("text").value.trim(), picture: "", id: "" });
  else show();
});
about().then(show, (e) => say(e.message, true));
