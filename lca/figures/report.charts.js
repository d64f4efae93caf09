// Charts. Each drawing function takes the element for a chart and the data of a run, and draws or redraws the chart.

// The buttons that send a chart to plotly's servers are removed, because a report never leaves the machine.
const unwanted = ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d", "autoScale2d", "pan2d"];

function config() {
  return { responsive: true, displaylogo: false, modeBarButtonsToRemove: phone.matches ? [...unwanted, "zoom2d"] : unwanted };
}

// All charts over time of a run have the same margins, so that their iterations are aligned.
function margins(run) {
  const longest = Math.max(...run.layers.map((layer) => shorten(layer.name).length));
  const left = Math.max(phone.matches ? 56 : 76, 16 + longest * (phone.matches ? 6 : 7));
  return { l: left, r: phone.matches ? 12 : 90, t: phone.matches ? 54 : 34, b: 42 };
}

function shorten(name) {
  const most = phone.matches ? 14 : 24;
  return name.length > most ? `…${name.slice(1 - most)}` : name;
}

// The whole run, with room for half an iteration on either side.
function timeAxis(run, more = {}) {
  return { range: [-0.5, run.iterations + 0.5], ...more };
}

function layout(run, options) {
  const { paper, ink, line } = theme();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  const { xaxis, yaxis, ...others } = options;
  return {
    paper_bgcolor: paper,
    plot_bgcolor: paper,
    font: { color: ink, size: phone.matches ? 11 : 12, family: "system-ui, sans-serif" },
    margin: margins(run),
    height: phone.matches ? 260 : 240,
    showlegend: false,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    hoverlabel: { namelength: -1 },
    dragmode: phone.matches ? false : "zoom", // on a phone, dragging scrolls the page
    uirevision: "kept", // keeps the zoom when the theme changes
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, fixedrange: phone.matches, ...yaxis },
    ...others,
  };
}

function draw(place, run, traces, options) {
  return Plotly.react(place, traces, layout(run, options), config());
}

// ── traces

function isolated(curve) {
  return curve.y.some((value, i) => value !== null && (curve.y[i - 1] ?? null) === null && (curve.y[i + 1] ?? null) === null);
}

function line(curve, name, more = {}) {
  const mode = isolated(curve) ? "lines+markers" : "lines";
  return { type: "scatter", mode, marker: { size: 3 }, x: curve.x, y: curve.y, name: plain(name), line: { width: 1.5 }, ...more };
}

function heatmap(x, names, z, limit, unit) {
  const side = { thickness: 10, tickformat: ".1~e", outlinewidth: 0, nticks: 5 };
  const below = { ...side, orientation: "h", yref: "container", y: 0, yanchor: "bottom", xpad: 0, ypad: 4 };
  return {
    type: "heatmap",
    x,
    y: names.map(plain),
    z,
    zmin: -limit,
    zmax: limit,
    colorscale: [[0, colors.help], [0.5, theme().paper], [1, colors.hurt]],
    colorbar: phone.matches ? below : side,
    hovertemplate: `%{y}<br>iteration %{x}<br>LCA %{z:.3g} ${unit} per iteration<extra></extra>`,
  };
}

// A rectangle behind the map shows where values are missing, in a color that differs from that of 0.
function mapLayout(run, names, height) {
  const missing = { type: "rect", layer: "below", x0: -0.5, x1: run.iterations - 0.5, yref: "paper", y0: 0, y1: 1, line: { width: 0 }, fillcolor: theme().missing };
  return {
    shapes: [missing],
    height: phone.matches ? height + 50 : height,
    xaxis: timeAxis(run, { title: { text: "iteration" }, showgrid: false }),
    yaxis: { autorange: "reversed", type: "category", showgrid: false, tickmode: "array", tickvals: names.map(plain), ticktext: names.map((name) => plain(shorten(name))) },
  };
}

function drawMap(place, run, x, names, z, limit, height) {
  const room = phone.matches ? { margin: { ...margins(run), b: 92 } } : {}; // for the color bar below the map
  return draw(place, run, [heatmap(x, names, z, limit, run.unit)], { ...mapLayout(run, names, height), ...room });
}

// ── charts of a run

function drawLoss(place, run) {
  const known = run.loss.x.map((t, i) => [t, run.loss.y[i]]).filter(([, value]) => value !== null);
  const mode = known.length < run.loss.x.length ? "lines+markers" : "lines";
  const curve = { x: known.map(([t]) => t), y: known.map(([, value]) => value) };
  const loss = line(curve, "loss", { mode, line: { color: theme().ink, width: 1.8 } });
  const summed = line(run.summed, "L₀ + Σ A", { line: { color: theme().accent, dash: "dot", width: 2 } });
  return draw(place, run, [loss, summed], {
    showlegend: true,
    xaxis: timeAxis(run),
    yaxis: { title: { text: `loss (${run.unit})` }, rangemode: "tozero" },
  });
}

function drawResidual(place, run) {
  const { x, y, sum, tolerance } = run.residual;
  const single = { type: "scatter", mode: "markers", x, y, name: "single iteration", marker: { color: theme().ink, size: 3 } };
  const total = line(sum, "cumulative sum", { line: { color: theme().accent, width: 1.5 } });
  const limits = [-tolerance, tolerance].map((at) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: at, y1: at, line: { color: colors.hurt, width: 1, dash: "dot" } }));
  return draw(place, run, [single, total], {
    height: phone.matches ? 190 : 170,
    showlegend: true,
    shapes: limits,
    xaxis: timeAxis(run),
    yaxis: { title: { text: `residual (${run.unit})` }, tickformat: "~e", nticks: 5 },
  });
}

function drawShares(place, run) {
  const { x, bin, helped, zero, hurt } = run.shares;
  const bars = (y, color, name) => ({ type: "bar", x, y, width: bin, name, marker: { color, line: { width: 0 } }, hovertemplate: "%{y:.1f} %" });
  const [below, above] = phone.matches ? ["", ""] : [" (LCA < 0)", " (LCA > 0)"]; // omitted on a phone, because the note says the same
  const traces = [bars(helped, colors.help, `help${below}`), bars(zero, theme().none, "no effect"), bars(hurt, colors.hurt, `hurt${above}`)];
  const half = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 50, y1: 50, line: { color: theme().ink, width: 1, dash: "dot" } };
  return draw(place, run, traces, {
    barmode: "stack",
    bargap: 0,
    showlegend: true,
    hovermode: "x unified",
    shapes: [half],
    xaxis: timeAxis(run, { title: { text: "iteration" } }),
    yaxis: { title: { text: "parameters (%)" }, range: [0, 100], fixedrange: true },
  });
}

function drawLayers(place, run) {
  const names = run.layers.map((layer) => layer.name);
  return drawMap(place, run, run.heat.x, names, run.heat.z, run.heat.limit, Math.max(180, 80 + 20 * names.length));
}

function drawDistribution(place, run) {
  const { edges, helped, hurt } = run.distribution;
  const middles = edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);
  const width = edges[1] - edges[0];
  const bars = (sign, counts, color, name) => ({ type: "bar", x: middles.map((m) => sign * m), y: counts, width, marker: { color }, name });
  return draw(place, run, [bars(-1, helped, colors.help, "help (LCA < 0)"), bars(1, hurt, colors.hurt, "hurt (LCA > 0)")], {
    showlegend: true,
    bargap: 0,
    xaxis: { title: { text: `LCA (${run.unit})` }, exponentformat: "power", nticks: phone.matches ? 5 : 11 },
    yaxis: { type: "log", title: { text: "count" }, exponentformat: "power" },
  });
}

function drawPeaks(place, run) {
  const { layers, peaks, synchronized } = run.synchrony;
  const shared = new Set(synchronized);
  const all = peaks.flatMap((of, i) => of.map((t) => ({ t, layer: layers[i] })));
  const points = (chosen, color, name) => ({ type: "scatter", mode: "markers", x: chosen.map(({ t }) => t), y: chosen.map(({ layer }) => plain(layer)), marker: { color, size: 6 }, name });
  const traces = [
    points(all.filter(({ t }) => !shared.has(t)), theme().ink, "only some layers"),
    points(all.filter(({ t }) => shared.has(t)), theme().accent, "all layers"),
  ];
  return draw(place, run, traces, {
    showlegend: true,
    height: Math.max(180, 90 + 18 * layers.length),
    xaxis: timeAxis(run, { title: { text: "iteration" } }),
    yaxis: { type: "category", categoryorder: "array", categoryarray: layers.map(plain).toReversed(), tickmode: "array", tickvals: layers.map(plain), ticktext: layers.map((name) => plain(shorten(name))) },
  });
}

// ── charts of one layer

function drawCumulative(place, run, layer) {
  const { ink } = theme();
  const traces = [line(layer.cumulative, run.split, { line: { color: ink, width: 1.8 } })];
  if (layer.held_out) traces.push(line(layer.held_out, run.against, { line: { color: ink, width: 1.4, dash: "dash" } }));
  if (layer.peaks) {
    const { x, y } = layer.cumulative;
    const height = (t) => y[Math.max(0, x.findLastIndex((each, i) => each <= t && y[i] !== null))];
    const marker = { color: colors.help, size: 6 };
    traces.push({ type: "scatter", mode: "markers", x: layer.peaks, y: layer.peaks.map(height), name: "peaks", marker });
  }
  return draw(place, run, traces, { showlegend: true, xaxis: timeAxis(run), yaxis: { title: { text: `cumulative LCA (${run.unit})` } } });
}

function drawHelpingOfLayer(place, run, layer) {
  const curve = line(layer.helping_over_time, "help", { line: { color: colors.help } });
  return draw(place, run, [curve], { height: 180, xaxis: timeAxis(run), yaxis: { title: { text: "helping (%)" }, range: [0, 100] } });
}

function drawNeurons(place, run, layer) {
  const { names, x, z, limit } = layer.neurons;
  return drawMap(place, run, x, names, z, limit, Math.max(160, Math.min(80 + 14 * names.length, 620)));
}

// Zooming the time axis of one chart of a run zooms its other charts as well.
function link(run, places) {
  let busy = false;
  for (const place of places) {
    place.on("plotly_relayout", (change) => {
      const keys = ["xaxis.range", "xaxis.range[0]", "xaxis.range[1]", "xaxis.autorange"];
      const update = Object.fromEntries(keys.filter((key) => key in change).map((key) => [key, change[key]]));
      if (busy || Object.keys(update).length === 0) return;
      busy = true;
      run.zoom = update; // is applied again when the charts are redrawn
      const others = places.filter((other) => other !== place);
      Promise.all(others.map((other) => Plotly.relayout(other, update))).finally(() => (busy = false));
    });
  }
}
