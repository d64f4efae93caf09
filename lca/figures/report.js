// The page: the findings, the charts and tables of each run, the light and dark theme, and printing.

const TOPICS = { learning: "Learning", layers: "Layers", hurting: "Hurting", rises: "Rises", helping: "Helping", certificate: "Certificate" };

// ── findings

// The links from a finding to the sections of its runs. With several runs, each has its own link.
function findingLinks(finding) {
  const targets = runs.map((run, i) => [`${finding.anchor}-${i}`, i]).filter(([id]) => document.getElementById(id));
  const [first] = targets;
  const topic = first ? element("a", { href: `#${first[0]}` }, TOPICS[finding.kind]) : element("span", {}, TOPICS[finding.kind]);
  if (runs.length === 1) return [topic];
  const others = targets.map(([id, i]) => element("a", { href: `#${id}`, title: runs[i].path }, String(i + 1)));
  return [topic, element("span", { class: "others" }, ...others)];
}

function showFindings() {
  const items = findings.map((finding) => {
    const topic = element("span", { class: "topic" }, ...findingLinks(finding));
    return element("li", { class: finding.warns ? "warns" : "" }, topic, element("span", {}, finding.text));
  });
  const list = document.getElementById("findings");
  list.append(...items);
  list.addEventListener("click", (event) => {
    const target = event.target.closest("a")?.getAttribute("href").slice(1);
    const details = target && document.getElementById(target).querySelector("details");
    if (details) details.open = true; // the certificate may be closed
  });
}

// ── details of a layer

function chart() {
  return element("div", { class: "chart" });
}

function neuronNote({ names, of }, unit) {
  const which = names.length < of ? `the ${names.length} of the layer's ${of} neurons or channels with the largest absolute total LCA` : "all neurons or channels of the layer";
  return `LCA over time of ${which}, in ${unit} per iteration.`;
}

function layerDetail(place, run, layer) {
  const [cumulative, helping, neurons] = [chart(), chart(), chart()];
  const peaks = layer.peaks ? ` Dots mark its ${layer.peaks.length} strongest peaks of learning.` : "";
  for (const old of place.querySelectorAll(".chart")) Plotly.purge(old);
  place.replaceChildren(element("h3", {}, `layer ${layer.name}`), note(`Cumulative LCA of the layer.${peaks}`, signs()), cumulative);
  if (layer.helping_over_time) place.append(note("Percentage of the layer's parameters with non-zero LCA that help."), helping);
  if (layer.neurons) place.append(note(neuronNote(layer.neurons, run.unit), signs()), neurons);
  drawCumulative(cumulative, run, layer);
  if (layer.helping_over_time) drawHelpingOfLayer(helping, run, layer);
  if (layer.neurons) drawNeurons(neurons, run, layer);
}

// ── a run

function lossNote(run) {
  const bin = run.residual.bin > 1 ? ` (the one with the largest residual in every ${run.residual.bin})` : "";
  return note(
    "The residual of an iteration is the sum of its LCA minus the change in the loss. ",
    `Dots show single iterations${bin}, and the line shows the cumulative sum. `,
    `The dotted lines mark the tolerance per iteration, ±${run.residual.tolerance}.`,
  );
}

function binNote(bin) {
  return bin > 1 ? ` Means over ${bin} iterations.` : "";
}

function certificatePart(id, run) {
  const certificate = element("details", { open: "" }, element("summary", {}, "error bounds and audit"), facts(run.certificate));
  const provenance = element("details", {}, element("summary", {}, "provenance of the run"), facts(run.provenance));
  const missing = element("details", {}, element("summary", {}, "unanswered questions"), facts(run.unanswered));
  return section(id, "Certificate", certificate, provenance, run.unanswered.length ? missing : null);
}

// The sections of a run, and the functions that draw their charts.
function sections(run, i, open) {
  const places = {};
  const place = (name) => (places[name] = chart());
  const detail = element("section", { class: "detail", "aria-live": "polite" });
  const hint = element("span", { class: "wide" }, " To zoom in on some iterations, drag across a chart; double-click to reset.");
  const gap = run.against === undefined ? "" : ` The gap is the LCA on ${run.against} minus that on ${run.split}.`;
  const parts = [section(`loss-${i}`, "Loss", note("The loss, compared with its first value plus the sum of all LCA so far.", hint), place("loss"), place("residual"), lossNote(run))];
  places.residual.classList.add("residual");
  if (run.shares) {
    const average = `In an average iteration, ${number(run.helping, 2)} % of the parameters with non-zero LCA help.`;
    parts.push(section(`helping-${i}`, "Parameters that help", note(average, binNote(run.shares.bin), signs()), place("shares")));
  }
  parts.push(
    section(`over-time-${i}`, "LCA of the layers over time", note(`LCA in ${run.unit} per iteration. Click a layer to see its neurons.${binNote(run.heat.bin)}`, signs()), place("heat")),
    section(`layers-${i}`, "Layers", note(`Click a layer to see its details, or a heading to sort the table.${gap}`, signs()), layerTable(run, open), detail),
  );
  if (run.distribution) {
    const what = "LCA of single parameters in single iterations, without the 1 % with the largest absolute values.";
    parts.push(section(`distribution-${i}`, "Distribution", note(what, signs()), place("distribution"), facts(run.distribution.facts)));
  }
  if (run.synchrony) {
    const what = "The peaks of a layer are the deepest minima of its LCA, that is, the iterations in which it helps most.";
    parts.push(section(`synchrony-${i}`, "Synchrony", note(what, signs()), place("peaks"), synchronyTable(run)));
  }
  return { parts: [...parts, certificatePart(`certificate-${i}`, run)], places, detail };
}

const DRAWERS = { loss: drawLoss, residual: drawResidual, shares: drawShares, heat: drawLayers, distribution: drawDistribution, peaks: drawPeaks };

function story(run, i) {
  const article = element("article", { id: `run-${i}` });
  const { parts, places, detail } = sections(run, i, open);

  function open(name) {
    const layer = run.layers.find((each) => each.name === name);
    for (const row of article.querySelectorAll("tr[data-layer]")) row.setAttribute("aria-selected", String(row.dataset.layer === name));
    run.open = name;
    layerDetail(detail, run, layer);
  }

  function fill() {
    const drawn = Object.entries(places).map(([name, place]) => DRAWERS[name](place, run));
    if (run.open) open(run.open);
    return Promise.all(drawn).then(() => run.zoom && Plotly.relayout(places.loss, run.zoom));
  }

  function connect() {
    link(run, [places.loss, places.residual, places.shares, places.heat, places.peaks].filter((place) => place));
    places.heat.on("plotly_click", (event) => open(run.layers[event.points[0].pointIndex[0]].name));
  }

  const number = runs.length > 1 ? `${i + 1}. ` : "";
  article.append(element("h2", {}, number + (run.problem ? `${run.problem}: ${run.path}` : run.path)), ...parts);
  document.getElementById("runs").append(article);
  return { fill, connect };
}

// All elements are inserted before the first chart is drawn, because a chart takes the width that is available when it is drawn.
const stories = runs.map(story);
showFindings();
for (const { fill, connect } of stories) fill().then(connect);

function redraw() {
  for (const { fill } of stories) fill();
}

phone.addEventListener("change", redraw);

// ── light and dark

const toggle = document.getElementById("theme");

function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  toggle.setAttribute("aria-pressed", String(dark));
  redraw();
}

toggle.addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
if (matchMedia("(prefers-color-scheme: dark)").matches) setTheme(true);

// ── print

// For printing, the theme is light, all closed parts are open, and the charts have a fixed width.
const PAGE = 680;
let beforePrint = null;

function resizeCharts(size) {
  for (const place of document.querySelectorAll(".chart")) if (place.data) Plotly.relayout(place, size);
}

addEventListener("beforeprint", () => {
  beforePrint = { dark: root.dataset.theme === "dark", closed: [...document.querySelectorAll("details:not([open])")] };
  for (const each of beforePrint.closed) each.open = true;
  setTheme(false);
  resizeCharts({ width: PAGE });
});

addEventListener("afterprint", () => {
  for (const each of beforePrint.closed) each.open = false;
  setTheme(beforePrint.dark);
  resizeCharts({ width: null, autosize: true });
});
