"use strict";
// Data of the page and helpers to build elements. Every text is inserted as text, never as markup.

const { runs, findings, colors } = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
root.style.setProperty("--help", colors.help);
root.style.setProperty("--hurt", colors.hurt);

function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children.filter((child) => child !== null));
  return created;
}

function number(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function facts(lines) {
  const list = element("dl", { class: "facts" });
  for (const [label, value] of lines) list.append(element("dt", {}, label), element("dd", {}, value ?? ""));
  return list;
}

function note(...children) {
  return element("p", { class: "note" }, ...children);
}

// The meaning of the sign, for every chart and table that shows LCA.
function signs() {
  const help = element("span", { class: "help" }, "helps");
  const hurt = element("span", { class: "hurt" }, "hurts");
  return element("span", { class: "signs" }, " LCA below 0 ", help, ", above 0 ", hurt, ".");
}

function section(id, title, ...children) {
  return element("section", { id, class: "part" }, element("h3", {}, title), ...children);
}

// Plotly interprets tags such as <b> and <a href> in its texts.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// ── the look of the page

const phone = matchMedia("(max-width: 640px)");

function theme() {
  const style = getComputedStyle(root);
  const read = (name) => style.getPropertyValue(name).trim();
  return { paper: read("--paper"), ink: read("--ink"), line: read("--line"), missing: read("--missing"), none: read("--none"), accent: read("--accent") };
}
