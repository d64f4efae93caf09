"use strict";
// Builds the page from the data that is embedded in it. Every text is set as text, never as markup.

const { runs, colours } = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
root.style.setProperty("--help", colours.help);
root.style.setProperty("--hurt", colours.hurt);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function number(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function facts(lines) {
  const list = element("dl", { class: "facts" });
  for (const [label, value] of lines) list.append(element("dt", {}, label), element("dd", {}, value ?? ""));
  return list;
}

// Plotly reads <b>, <a href> and the like in its texts.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// ── charts

function theme() {
  const style = getComputedStyle(root);
  const of = (name) => style.getPropertyValue(name).trim();
  return { paper: of("--paper"), ink: of("--ink"), line: of("--line"), missing: of("--missing") };
}

function layout(options) {
  const { paper, ink, line } = theme();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  const { xaxis, yaxis, ...others } = options;
  return {
    paper_bgcolor: paper,
    plot_bgcolor: paper,
    font: { color: ink, size: 12, family: "system-ui, sans-serif" },
    margin: { l: 110, r: 90, t: 32, b: 40 },
    height: 240,
    showlegend: false,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    dragmode: "zoom",
    uirevision: "kept", // a zoom stays when the theme changes
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, automargin: true, ...yaxis },
    ...others,
  };
}

const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

function draw(place, traces, options) {
  return Plotly.react(place, traces, layout(options), config);
}

function diverging() {
  const { paper } = theme();
  return [[0, colours.help], [0.5, paper], [1, colours.hurt]];
}

function heatmap(x, y, z, limit) {
  const hovertemplate = "%{y}<br>iteration %{x}<br>%{z:.3g} nats an iteration<extra></extra>";
  const colorbar = { thickness: 10, tickformat: ".1e", outlinewidth: 0 };
  return { type: "heatmap", x, y: y.map(plain), z, zmin: -limit, zmax: limit, colorscale: diverging(), hovertemplate, colorbar };
}

// What is behind a map shows where nothing is known: neither paper, which is 0, nor a grid.
function behindMap() {
  return { plot_bgcolor: theme().missing };
}

function alone(curve) {
  return curve.y.some((value, i) => value !== null && (curve.y[i - 1] ?? null) === null && (curve.y[i + 1] ?? null) === null);
}

function line(curve, name, more = {}) {
  const mode = alone(curve) ? "lines+markers" : "lines";
  return { type: "scatter", mode, marker: { size: 3 }, x: curve.x, y: curve.y, name: plain(name), line: { width: 1.5 }, ...more };
}

// A zoom in time in one chart of a run is one in all of them.
function link(places) {
  let busy = false;
  for (const place of places) {
    place.on("plotly_relayout", (change) => {
      const keys = ["xaxis.range[0]", "xaxis.range[1]", "xaxis.autorange"];
      const update = Object.fromEntries(keys.filter((key) => key in change).map((key) => [key, change[key]]));
      if (busy || Object.keys(update).length === 0) return;
      busy = true;
      const others = places.filter((other) => other !== place);
      Promise.all(others.map((other) => Plotly.relayout(other, update))).finally(() => (busy = false));
    });
  }
}

// ── table of layers

const columns = [
  ["layer", (layer) => layer.name, null],
  ["parameters", (layer) => layer.parameters, 0],
  ["LCA (nats)", (layer) => layer.lca, 4],
  ["share %", (layer) => layer.share, 1],
  ["helping %", (layer) => layer.helping, 2],
  ["gap (nats)", (layer) => layer.gap, 4],
];

function sparkline(curve) {
  const namespace = "http://www.w3.org/2000/svg";
  const [width, height] = [110, 22];
  const values = curve.y.filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value) => height - 2 - ((value - low) / (high - low || 1)) * (height - 4);
  const x = (i) => ((i / Math.max(curve.y.length - 1, 1)) * width).toFixed(1);
  const step = (value, i) => (value === null ? "" : `${(curve.y[i - 1] ?? null) === null ? "M" : "L"}${x(i)},${y(value).toFixed(1)}`);
  const svg = document.createElementNS(namespace, "svg");
  for (const [name, value] of Object.entries({ class: "spark", width, height, "aria-hidden": "true" })) svg.setAttribute(name, value);
  const zero = document.createElementNS(namespace, "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: width, y1: y(0), y2: y(0) })) zero.setAttribute(name, value);
  const path = document.createElementNS(namespace, "path");
  path.setAttribute("d", curve.y.map(step).join("") || "M0,0");
  svg.append(zero, path);
  return svg;
}

function layerTable(run, open) {
  const shown = columns.filter(([, value], i) => i < 3 || run.layers.some((layer) => value(layer) !== undefined));
  const body = element("tbody");
  const rows = run.layers.map((layer) => {
    const name = element("button", { type: "button" }, layer.name);
    name.addEventListener("click", () => open(layer.name));
    const cells = shown.slice(1).map(([heading, value, digits]) => {
      const cell = element("td", {}, heading === "parameters" ? value(layer).toLocaleString("en") : number(value(layer), digits));
      if (heading === "LCA (nats)" && value(layer)) cell.className = value(layer) < 0 ? "help" : "hurt";
      return cell;
    });
    const row = element("tr", { "data-layer": layer.name }, element("td", {}, name), ...cells, element("td", {}, sparkline(layer.cumulative)));
    return { layer, row };
  });
  body.append(...rows.map(({ row }) => row));
  const headings = shown.map(([heading, value]) => {
    const button = element("button", { type: "button" }, heading);
    const cell = element("th", { scope: "col", "aria-sort": "none" }, button);
    button.addEventListener("click", () => {
      const ascending = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const known = (each) => each !== null && each !== undefined;
      const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
      rows.sort(({ layer: one }, { layer: other }) => {
        const [a, b] = [value(one), value(other)];
        if (!known(a) || !known(b)) return known(b) - known(a); // what is not known is last either way
        return (ascending ? 1 : -1) * order(a, b);
      });
      body.append(...rows.map(({ row }) => row));
    });
    return cell;
  });
  const head = element("thead", {}, element("tr", {}, ...headings, element("th", { scope: "col" }, "cumulative")));
  return element("div", { class: "scroll" }, element("table", { class: "layers" }, head, body));
}

// ── a layer, opened

function layerDetail(place, run, layer) {
  const chart = () => element("div", { class: "chart" });
  const [cumulative, helping, neurons] = [chart(), chart(), chart()];
  const told = layer.peaks ? `; its ${layer.peaks.length} deepest peaks are marked` : "";
  const shown = layer.neurons ? Math.min(layer.neurons.names.length, layer.neurons.of) : 0;
  for (const old of place.querySelectorAll(".chart")) Plotly.purge(old);
  place.replaceChildren(
    element("h3", {}, `layer ${layer.name}`),
    element("p", { class: "note" }, `Cumulative LCA${told}.`),
    cumulative,
    ...(layer.helping_over_time ? [element("p", { class: "note" }, "Share of its parameters that help, of those with an effect."), helping] : []),
    ...(layer.neurons ? [element("p", { class: "note" }, `LCA of ${shown} of its ${layer.neurons.of} neurons or channels over time.`), neurons] : []),
  );
  const traces = [line(layer.cumulative, run.split, { line: { color: theme().ink, width: 1.8 } })];
  if (layer.held_out) traces.push(line(layer.held_out, run.against, { line: { color: theme().ink, width: 1.4, dash: "dash" } }));
  if (layer.peaks) {
    const { x, y } = layer.cumulative;
    const height = (t) => y[Math.max(0, x.findLastIndex((each, i) => each <= t && y[i] !== null))];
    const marker = { color: colours.help, size: 6 };
    traces.push({ type: "scatter", mode: "markers", x: layer.peaks, y: layer.peaks.map(height), name: "peaks", marker });
  }
  draw(cumulative, traces, { showlegend: true, yaxis: { title: { text: "nats" } } });
  if (layer.helping_over_time)
    draw(helping, [line(layer.helping_over_time, "helping", { line: { color: colours.help } })], {
      height: 180,
      yaxis: { title: { text: "%" }, range: [0, 100] },
    });
  if (layer.neurons) {
    const { names, x, z, limit } = layer.neurons;
    const height = Math.max(160, Math.min(80 + 14 * names.length, 620));
    draw(neurons, [heatmap(x, names, z, limit)], { ...behindMap(), height, yaxis: { autorange: "reversed", type: "category", showgrid: false }, xaxis: { title: { text: "iteration" } } });
  }
}

// ── a run

function story(run) {
  const chart = () => element("div", { class: "chart" });
  const [loss, heat, distribution, peaks] = [chart(), chart(), chart(), chart()];
  const detail = element("section", { class: "detail", "aria-live": "polite" });
  const article = element("article");

  function open(name) {
    const layer = run.layers.find((each) => each.name === name);
    for (const row of article.querySelectorAll("tr[data-layer]")) row.setAttribute("aria-selected", String(row.dataset.layer === name));
    run.open = name;
    layerDetail(detail, run, layer);
  }

  function fill() {
    const { ink } = theme();
    const known = run.loss.x.map((t, i) => [t, run.loss.y[i]]).filter(([, value]) => value !== null);
    const sampled = known.length < run.loss.x.length ? "lines+markers" : "lines";
    const loss_ = { x: known.map(([t]) => t), y: known.map(([, value]) => value) };
    const drawn = [
      draw(loss, [line(loss_, "loss", { mode: sampled, line: { color: ink, width: 1.8 } }), line(run.summed, "L₀ + Σ A", { line: { color: "#e08214", dash: "dot" } })], {
        showlegend: true,
        yaxis: { title: { text: "loss (nats)" }, rangemode: "tozero" },
      }),
      draw(heat, [heatmap(run.heat.x, run.layers.map((layer) => layer.name), run.heat.z, run.heat.limit)], {
        ...behindMap(),
        height: Math.max(180, 80 + 20 * run.layers.length),
        xaxis: { title: { text: "iteration" }, showgrid: false },
        yaxis: { autorange: "reversed", type: "category", showgrid: false },
      }),
    ];
    if (run.distribution) {
      const { edges, helped, hurt } = run.distribution;
      const middles = edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);
      const width = edges[1] - edges[0];
      const bars = (sign, counts, color, name) => ({ type: "bar", x: middles.map((m) => sign * m), y: counts, width, marker: { color }, name });
      draw(distribution, [bars(-1, helped, colours.help, "helped"), bars(1, hurt, colours.hurt, "hurt")], {
        showlegend: true,
        bargap: 0,
        xaxis: { title: { text: "LCA of a parameter in an iteration (nats), without the largest 1 %" } },
        yaxis: { type: "log", title: { text: "how many" } },
      });
    }
    if (run.synchrony) {
      const together = new Set(run.synchrony.synchronised);
      const at = run.synchrony.peaks.flatMap((of, i) => of.map((t) => ({ t, layer: run.synchrony.layers[i] })));
      const points = (chosen, color, name) => ({ type: "scatter", mode: "markers", x: chosen.map(({ t }) => t), y: chosen.map(({ layer }) => plain(layer)), marker: { color, size: 6 }, name });
      draw(peaks, [points(at.filter(({ t }) => !together.has(t)), ink, "a peak"), points(at.filter(({ t }) => together.has(t)), colours.hurt, "of all layers")], {
        showlegend: true,
        height: Math.max(180, 90 + 18 * run.synchrony.layers.length),
        xaxis: { title: { text: "iteration" } },
        yaxis: { type: "category", categoryorder: "array", categoryarray: run.synchrony.layers.map(plain).toReversed() },
      });
    }
    if (run.open) open(run.open);
    return Promise.all(drawn);
  }

  const helping = run.helping === undefined ? "" : ` In an average iteration ${number(run.helping, 2)} % of the parameters with an effect help.`;
  const bin = run.heat.bin > 1 ? ` Means over ${run.heat.bin} iterations.` : "";
  article.append(
    element("h2", {}, run.problem ? `${run.problem}: ${run.path}` : run.path),
    element("details", { open: "" }, element("summary", {}, "certificate"), facts(run.certificate)),
    element("details", {}, element("summary", {}, "provenance"), facts(run.provenance)),
    element("h3", {}, "loss"),
    element("p", { class: "note" }, `Drag to zoom in time, here or below; double click to see all.${helping}`),
    loss,
    element("h3", {}, "LCA by layer"),
    element("p", { class: "note" }, `Click a layer, here or in the table, for its neurons.${bin}`),
    heat,
    layerTable(run, open),
    detail,
  );
  if (run.distribution) article.append(element("h3", {}, "distribution"), distribution, facts(run.distribution.facts));
  if (run.synchrony) {
    const rows = run.synchrony.rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
    const head = element("tr", {}, element("th", {}, "peaks of"), ...run.synchrony.columns.map((name) => element("th", { scope: "col" }, name)));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
    article.append(element("h3", {}, "synchrony"), element("p", { class: "note" }, "The deepest moments of learning of each layer."), peaks, element("div", { class: "scroll" }, table));
  }
  if (run.unanswered.length) article.append(element("details", {}, element("summary", {}, "not answered"), facts(run.unanswered)));
  document.getElementById("runs").append(article);
  return {
    fill,
    connect() {
      link([loss, heat]);
      heat.on("plotly_click", (event) => open(run.layers[event.points[0].pointIndex[0]].name));
    },
  };
}

// All are on the page before the first is drawn, for a chart is as wide as there is room for it then.
const stories = runs.map(story);
for (const { fill, connect } of stories) fill().then(connect);

// ── light and dark

const toggle = document.getElementById("theme");

function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  toggle.setAttribute("aria-pressed", String(dark));
  for (const { fill } of stories) fill();
}

// Paper is white and has no hidden parts, and charts are as wide as it.
const PAGE = 680;
let beforePrint = null;
addEventListener("beforeprint", () => {
  beforePrint = { dark: root.dataset.theme === "dark", closed: [...document.querySelectorAll("details:not([open])")] };
  for (const each of beforePrint.closed) each.open = true;
  root.dataset.theme = "light";
  for (const { fill } of stories) fill();
  for (const chart of document.querySelectorAll(".chart")) if (chart.data) Plotly.relayout(chart, { width: PAGE });
});
addEventListener("afterprint", () => {
  for (const each of beforePrint.closed) each.open = false;
  setTheme(beforePrint.dark);
  for (const chart of document.querySelectorAll(".chart")) if (chart.data) Plotly.relayout(chart, { width: null, autosize: true });
});

toggle.addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
if (matchMedia("(prefers-color-scheme: dark)").matches) setTheme(true);
