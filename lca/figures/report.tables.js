// Tables: the layers of a run, which can be sorted and opened, and the synchrony of its layers.

const columns = [
  ["layer", (layer) => layer.name, null],
  ["parameters", (layer) => layer.parameters, 0],
  ["LCA", (layer) => layer.lca, 4],
  ["share %", (layer) => layer.share, 1],
  ["helping %", (layer) => layer.helping, 2],
  ["gap", (layer) => layer.gap, 4],
];

function svgElement(tag, attributes) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  return created;
}

function sparkline(curve) {
  const [width, height] = [110, 22];
  const values = curve.y.filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value) => height - 2 - ((value - low) / (high - low || 1)) * (height - 4);
  const x = (i) => ((i / Math.max(curve.y.length - 1, 1)) * width).toFixed(1);
  const step = (value, i) => (value === null ? "" : `${(curve.y[i - 1] ?? null) === null ? "M" : "L"}${x(i)},${y(value).toFixed(1)}`);
  const svg = svgElement("svg", { class: "spark", width, height, "aria-hidden": "true" });
  svg.append(svgElement("line", { x1: 0, x2: width, y1: y(0), y2: y(0) }), svgElement("path", { d: curve.y.map(step).join("") || "M0,0" }));
  return svg;
}

function withUnit(heading, unit) {
  return heading === "LCA" || heading === "gap" ? `${heading} (${unit})` : heading;
}

function layerCell(layer, [heading, read, digits]) {
  const value = read(layer);
  const cell = element("td", {}, heading === "parameters" ? value.toLocaleString("en") : number(value, digits));
  if (heading === "LCA" && value) cell.className = value < 0 ? "help" : "hurt";
  return cell;
}

function layerRow(layer, shown, open) {
  const name = element("button", { type: "button", title: layer.name }, layer.name);
  name.addEventListener("click", () => open(layer.name));
  const cells = shown.slice(1).map((column) => layerCell(layer, column));
  return element("tr", { "data-layer": layer.name }, element("td", {}, name), ...cells, element("td", {}, sparkline(layer.cumulative)));
}

// Unknown values come last in both directions.
function compare(a, b, ascending) {
  const known = (each) => each !== null && each !== undefined;
  if (!known(a) || !known(b)) return known(b) - known(a);
  return (ascending ? 1 : -1) * (typeof a === "string" ? a.localeCompare(b) : a - b);
}

function layerTable(run, open) {
  const shown = columns.filter(([, value], i) => i < 3 || run.layers.some((layer) => value(layer) !== undefined));
  const rows = run.layers.map((layer) => ({ layer, row: layerRow(layer, shown, open) }));
  const body = element("tbody", {}, ...rows.map(({ row }) => row));
  const headings = shown.map(([heading, value]) => {
    const button = element("button", { type: "button" }, withUnit(heading, run.unit));
    const cell = element("th", { scope: "col", "aria-sort": "none" }, button);
    button.addEventListener("click", () => {
      const ascending = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      rows.sort((one, other) => compare(value(one.layer), value(other.layer), ascending));
      body.append(...rows.map(({ row }) => row));
    });
    return cell;
  });
  const head = element("thead", {}, element("tr", {}, ...headings, element("th", { scope: "col" }, "cumulative")));
  return element("div", { class: "scroll" }, element("table", { class: "layers" }, head, body));
}

function synchronyTable(run) {
  const rows = run.synchrony.rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  const names = run.synchrony.columns.map((name) => element("th", { scope: "col" }, name));
  const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "peaks of"), ...names));
  return element("div", { class: "scroll" }, element("table", {}, head, element("tbody", {}, ...rows)));
}
