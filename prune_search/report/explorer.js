"use strict";
// The part of the page that one works with: points to hover, zoom and click, a table to sort, filters for both.
(() => {
  const data = JSON.parse(document.getElementById("trials").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const WIDTH = 900, HEIGHT = 420, LEFT = 70, RIGHT = 20, TOP = 12, BOTTOM = 46;
  const byId = (id) => document.getElementById(id);
  const plot = byId("plot"), tip = byId("tip"), panel = byId("panel");
  const state = { x: data.x, y: data.y, hidden: new Set(), low: 0, high: 1, view: null, chosen: [] };

  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en-US");
    return size >= 1e5 || (size < 1e-3 && size > 0) ? value.toExponential(2) : value.toPrecision(4);
  };
  const make = (tag, attributes, parent, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };
  const element = (tag, text, parent) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };

  const fits = (trial) => {
    const sparsity = trial.metrics.sparsity;
    return !state.hidden.has(trial.paradigm)
      && (sparsity === undefined || (sparsity >= state.low - 1e-9 && sparsity <= state.high + 1e-9));
  };
  const shown = () => data.trials.filter(
    (trial) => fits(trial) && trial.metrics[state.x] !== undefined && trial.metrics[state.y] !== undefined);

  const extent = (values) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (!(high > low)) { low -= 0.5 * (Math.abs(low) || 1); high += 0.5 * (Math.abs(high) || 1); }
    const room = 0.05 * (high - low);
    return [low - room, high + room];
  };
  const ticks = (low, high) => {
    const raw = (high - low) / 6, size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * size).find((n) => n >= raw);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + 1e-12; at += step) found.push(+at.toPrecision(12));
    return found;
  };
  const mark = (shape, x, y, size) => {
    const points = { s: [[-1, -1], [1, -1], [1, 1], [-1, 1]], "^": [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]],
      v: [[0, 1.2], [1.1, -0.9], [-1.1, -0.9]], D: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
      "<": [[-1.2, 0], [0.9, -1.1], [0.9, 1.1]], ">": [[1.2, 0], [-0.9, -1.1], [-0.9, 1.1]] }[shape];
    if (!points) return ["circle", { cx: x, cy: y, r: size }];
    return ["polygon", { points: points.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ") }];
  };

  function draw() {
    plot.replaceChildren();
    const trials = shown();
    if (!trials.length) {
      make("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, plot, "no trial fits the filters");
      return;
    }
    const [x0, x1, y0, y1] = state.view
      || [...extent(trials.map((t) => t.metrics[state.x])), ...extent(trials.map((t) => t.metrics[state.y]))];
    const px = (v) => LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    const py = (v) => HEIGHT - BOTTOM - (v - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
    plot.dataset.view = [x0, x1, y0, y1].join(",");
    const axes = make("g", { class: "axes" }, plot);
    for (const at of ticks(x0, x1)) {
      make("line", { x1: px(at), x2: px(at), y1: TOP, y2: HEIGHT - BOTTOM }, axes);
      make("text", { x: px(at), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, axes, number(at));
    }
    for (const at of ticks(y0, y1)) {
      make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(at), y2: py(at) }, axes);
      make("text", { x: LEFT - 8, y: py(at) + 4, "text-anchor": "end" }, axes, number(at));
    }
    make("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, axes, state.x);
    const middle = (TOP + HEIGHT - BOTTOM) / 2;
    make("text", { x: 14, y: middle, transform: `rotate(-90 14 ${middle})`, "text-anchor": "middle" }, axes, state.y);
    const dense = data.dense[state.y];
    if (dense !== undefined && dense > y0 && dense < y1) {
      make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(dense), y2: py(dense), class: "dense" }, plot);
      make("text", { x: WIDTH - RIGHT - 4, y: py(dense) - 4, "text-anchor": "end", class: "dense" }, plot, "dense");
    }
    const inside = make("g", {}, plot);
    for (const trial of trials) {
      const x = px(trial.metrics[state.x]), y = py(trial.metrics[state.y]);
      if (x < LEFT - 1 || x > WIDTH - RIGHT + 1 || y < TOP - 1 || y > HEIGHT - BOTTOM + 1) continue;
      const style = data.styles[trial.paradigm] || { colour: "#777", marker: "o" };
      const [tag, place] = mark(style.marker, x, y, 5);
      const chosen = state.chosen.includes(trial.i);
      const node = make(tag, { ...place, fill: trial.pareto || chosen ? style.colour : "none", stroke: style.colour,
        "stroke-width": chosen ? 4 : 1.5, class: "point", tabindex: 0, "data-i": trial.i }, inside);
      node.addEventListener("pointerenter", () => hover(trial, x, y));
      node.addEventListener("pointerleave", () => { tip.hidden = true; });
      node.addEventListener("click", (event) => choose(trial.i, event.shiftKey));
      node.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(trial.i, event.shiftKey); });
    }
  }

  function hover(trial, x, y) {
    tip.replaceChildren();
    element("b", trial.name, tip);
    for (const name of new Set([state.x, state.y, "sparsity"])) {
      if (trial.metrics[name] !== undefined) element("div", `${name} ${number(trial.metrics[name])}`, tip);
    }
    for (const [path, value] of Object.entries(trial.params).slice(0, 6)) element("div", `${path} = ${value}`, tip);
    const scale = plot.clientWidth / WIDTH;
    tip.style.left = `${Math.min(x * scale + 14, plot.clientWidth - 240)}px`;
    tip.style.top = `${y * scale + 14}px`;
    tip.hidden = false;
  }

  function choose(i, another) {
    if (!another) state.chosen = [i];
    else state.chosen = state.chosen.includes(i) ? state.chosen.filter((one) => one !== i) : [...state.chosen.slice(-1), i];
    draw();
    tell();
  }

  function curves(trials) {
    const drawn = trials.filter((trial) => trial.curve.length > 1);
    if (!drawn.length) return;
    const box = make("svg", { viewBox: "0 0 440 170", class: "curve", role: "img" });
    const points = drawn.flatMap((trial) => trial.curve);
    const [x0, x1] = extent(points.map((p) => p[0])), [y0, y1] = extent(points.map((p) => p[1]));
    const px = (v) => 60 + (v - x0) / (x1 - x0) * 370, py = (v) => 140 - (v - y0) / (y1 - y0) * 130;
    for (const at of ticks(y0, y1)) make("text", { x: 54, y: py(at) + 4, "text-anchor": "end" }, box, number(at));
    for (const at of ticks(x0, x1).slice(0, 5)) make("text", { x: px(at), y: 156, "text-anchor": "middle" }, box, number(at));
    drawn.forEach((trial, place) => {
      const line = trial.curve.map(([x, y]) => `${px(x)},${py(y)}`).join(" ");
      make("polyline", { points: line, fill: "none", stroke: place ? "#D55E00" : "#0072B2", "stroke-width": 2 }, box);
    });
    element("div", `${data.y} over steps${drawn.length > 1 ? ": the first in blue, the second in orange" : ""}`, panel);
    panel.appendChild(box);
  }

  function tell() {
    panel.replaceChildren();
    const trials = state.chosen.map((i) => data.trials[i]);
    if (!trials.length) return;
    element("h3", trials.map((trial) => trial.name).join("  beside  "), panel);
    curves(trials);
    const table = element("table", undefined, panel);
    const head = element("tr", undefined, element("thead", undefined, table));
    for (const text of ["", ...trials.map((trial) => trial.name)]) element("th", text, head);
    const body = element("tbody", undefined, table);
    const line = (name, values, quiet) => {
      const row = element("tr", undefined, body);
      if (quiet) row.className = "quiet";
      for (const text of [name, ...values]) element("td", text, row);
    };
    const metrics = new Set(trials.flatMap((trial) => Object.keys(trial.metrics)));
    for (const name of metrics) line(name, trials.map((trial) => number(trial.metrics[name])));
    const keys = new Set(trials.flatMap((trial) => Object.keys(trial.recipe)));
    for (const key of [...keys].sort()) {
      const values = trials.map((trial) => (key in trial.recipe ? String(trial.recipe[key]) : "–"));
      // Of two, what they have in common is not what one looks for.
      if (trials.length < 2 || values[0] !== values[1]) line(key, values, trials.length < 2);
    }
    panel.scrollIntoView({ block: "nearest" });
  }

  function filtered() {
    for (const row of document.querySelectorAll("tr[data-i]")) row.hidden = !fits(data.trials[row.dataset.i]);
    const count = data.trials.filter(fits).length;
    byId("count").textContent = `${count} of ${data.trials.length} rows`;
    draw();
  }

  for (const axis of ["x", "y"]) {
    const select = byId(`axis-${axis}`);
    for (const name of data.metrics) {
      const option = element("option", name, select);
      option.value = name;
      option.selected = name === state[axis];
    }
    select.addEventListener("change", () => { state[axis] = select.value; state.view = null; draw(); });
  }
  for (const box of document.querySelectorAll("input[data-paradigm]")) {
    box.addEventListener("change", () => {
      state.hidden[box.checked ? "delete" : "add"](box.dataset.paradigm);
      filtered();
    });
  }
  for (const end of ["low", "high"]) {
    byId(end).addEventListener("input", (event) => {
      const value = Number.parseFloat(event.target.value);
      state[end] = Number.isFinite(value) ? value / 100 : (end === "low" ? 0 : 1);
      filtered();
    });
  }
  byId("whole").addEventListener("click", () => { state.view = null; draw(); });

  const view = () => plot.dataset.view.split(",").map(Number);
  const share = (event) => {
    const box = plot.getBoundingClientRect();
    const x = (event.clientX - box.left) * WIDTH / box.width, y = (event.clientY - box.top) * HEIGHT / box.height;
    return [(x - LEFT) / (WIDTH - LEFT - RIGHT), (HEIGHT - BOTTOM - y) / (HEIGHT - TOP - BOTTOM)];
  };
  plot.addEventListener("wheel", (event) => {
    if (!plot.dataset.view) return;
    event.preventDefault();
    const [x0, x1, y0, y1] = view(), [sx, sy] = share(event), factor = event.deltaY > 0 ? 1.25 : 0.8;
    const x = x0 + sx * (x1 - x0), y = y0 + sy * (y1 - y0);
    state.view = [x - (x - x0) * factor, x + (x1 - x) * factor, y - (y - y0) * factor, y + (y1 - y) * factor];
    draw();
  }, { passive: false });
  let held = null;
  plot.addEventListener("pointerdown", (event) => {
    if (plot.dataset.view && !event.target.classList.contains("point")) held = { at: share(event), view: view() };
  });
  window.addEventListener("pointerup", () => { held = null; });
  window.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [sx, sy] = share(event), [x0, x1, y0, y1] = held.view;
    const dx = (held.at[0] - sx) * (x1 - x0), dy = (held.at[1] - sy) * (y1 - y0);
    state.view = [x0 + dx, x1 + dx, y0 + dy, y1 + dy];
    draw();
  });
  plot.addEventListener("dblclick", () => { state.view = null; draw(); });

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const text = row.cells[column].textContent.trim(), value = Number.parseFloat(text.replace(/,/g, ""));
        return Number.isNaN(value) ? text : value;
      };
      const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
      const rows = [...body.rows].map((row) => [key(row), row]).sort((a, b) => order(a[0], b[0]) * (down ? -1 : 1));
      body.replaceChildren(...rows.map(([, row]) => row));
    }));
    for (const row of body.querySelectorAll("tr[data-i]")) {
      row.addEventListener("click", (event) => choose(Number(row.dataset.i), event.shiftKey));
    }
  }
  filtered();
})();
