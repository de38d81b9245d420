/* The live figures of docs/live.md: controls, and SVG drawn from live_arithmetic.js. No library, no request. */
(function () {
  "use strict";
  const live = window.fastlsLive;
  const SVG = "http://www.w3.org/2000/svg";
  const show = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "∞");

  /* The next 1, 2 or 4 times a power of ten: an axis that ends there has round quarters. */
  const roundUp = (x) => [1, 2, 4, 8, 10].map((k) => k * Math.pow(10, Math.floor(Math.log10(x)))).find((k) => k >= x);

  function make(name, attributes, parent, text) {
    const node = SVG_TAGS.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }
  const SVG_TAGS = new Set(["svg", "path", "circle", "line", "rect", "text", "g", "title", "polygon"]);

  /* -- controls ----------------------------------------------------------------------------------------------- */

  function slider(box, label, { min, max, value, step = 0.01, log = false }, changed) {
    const row = make("label", { class: "live-control" }, box, label + " ");
    const given = (x) => (log ? Math.log10(x) : x);
    const input = make("input", { type: "range", min: given(min), max: given(max), step, value: given(value) }, row);
    const output = make("output", {}, row);
    const control = { get value() { return log ? Math.pow(10, Number(input.value)) : Number(input.value); } };
    control.set = (x) => { input.value = given(x); output.textContent = show(control.value); };
    input.addEventListener("input", () => { output.textContent = show(control.value); changed(); });
    output.textContent = show(control.value);
    return control;
  }

  function choice(box, label, options, changed) {
    const row = make("label", { class: "live-control" }, box, label + " ");
    const select = make("select", {}, row);
    options.forEach(([value, text]) => make("option", { value }, select, text));
    select.addEventListener("change", changed);
    return select;
  }

  function button(box, text, clicked) {
    make("button", { type: "button", class: "live-button" }, box, text).addEventListener("click", clicked);
  }

  /* -- drawing ------------------------------------------------------------------------------------------------ */

  /* A panel with axes in an SVG; numbers are data, `box` is in the units of the viewBox. */
  class Panel {
    constructor(svg, box, xs, ys, labels) {
      Object.assign(this, { svg, box, xs, ys });
      make("rect", { x: box.x, y: box.y, width: box.w, height: box.h, class: "live-frame" }, svg);
      for (let k = 0; k <= 4; k += 1) {
        const [x, y] = [xs[0] + (k / 4) * (xs[1] - xs[0]), ys[0] + (k / 4) * (ys[1] - ys[0])];
        make("text", { x: this.x(x), y: box.y + box.h + 14, "text-anchor": "middle" }, svg, show(x));
        make("text", { x: box.x - 5, y: this.y(y) + 4, "text-anchor": "end" }, svg, show(y));
      }
      make("text", { x: box.x + box.w / 2, y: box.y + box.h + 30, "text-anchor": "middle" }, svg, labels[0]);
      make("text", { x: box.x, y: box.y - 7 }, svg, labels[1]);
    }
    x(value) { return this.box.x + (this.box.w * (value - this.xs[0])) / (this.xs[1] - this.xs[0]); }
    y(value) { return this.box.y + this.box.h * (1 - (value - this.ys[0]) / (this.ys[1] - this.ys[0])); }
    holds([x, y]) {
      const inside = (value, [low, high]) => value >= Math.min(low, high) && value <= Math.max(low, high);
      return inside(x, this.xs) && inside(y, this.ys);
    }
    line(points, kind) {
      let text = "";
      let pen = "M";
      for (const point of points) {
        if (!this.holds(point)) { pen = "M"; continue; } // what leaves the panel is not drawn
        text += `${pen}${this.x(point[0]).toFixed(2)} ${this.y(point[1]).toFixed(2)}`;
        pen = "L";
      }
      make("path", { d: text, class: kind }, this.svg);
    }
    curve(f, kind, from = this.xs[0], to = this.xs[1]) {
      this.line(Array.from({ length: 201 }, (_, k) => from + (k / 200) * (to - from)).map((x) => [x, f(x)]), kind);
    }
    mark([x, y], kind, hint) {
      const clipped = [Math.min(this.xs[1], Math.max(this.xs[0], x)), Math.min(this.ys[1], Math.max(this.ys[0], y))];
      const node = make("circle", { cx: this.x(clipped[0]), cy: this.y(clipped[1]), r: 4.5, class: kind }, this.svg);
      if (hint) make("title", {}, node, hint);
    }
  }

  /* A figure: an SVG, a line of text that screen readers are told of, controls, and `draw`, called at every change. */
  function figure(id, height, title, setUp) {
    const root = document.getElementById(id);
    if (!root) return;
    const svg = make("svg", { viewBox: `0 0 640 ${height}`, role: "img", "aria-label": title }, root);
    const said = make("p", { class: "live-said", "aria-live": "polite" }, root);
    const controls = make("div", { class: "live-controls" }, root);
    const draw = setUp(controls, svg, () => refresh());
    function refresh() {
      svg.replaceChildren();
      said.textContent = draw(svg);
    }
    refresh();
  }

  const legend = (svg, y, entries) => {
    let x = 46;
    for (const [kind, text] of entries) {
      make("line", { x1: x, x2: x + 22, y1: y, y2: y, class: kind }, svg);
      make("text", { x: x + 27, y: y + 4 }, svg, text);
      x += 45 + 8.5 * text.length;
    }
  };

  /* -- (a) backtracking on two losses --------------------------------------------------------------------------- */

  const LINE = { centres: [[-1], [1]], curvatures: [[[1]], [[2]]] };
  figure("live-search", 330, "Backtracking on two losses", (controls, svg, refresh) => {
    let seen = 1;
    const again = () => { seen = 1; refresh(); };
    const start = slider(controls, "start θ", { min: -2.5, max: 2.5, value: 2 }, again);
    const beta = slider(controls, "β", { min: 0.01, max: 0.95, value: 0.3 }, again);
    const gamma = slider(controls, "γ", { min: 0.1, max: 0.9, value: 0.6 }, again);
    const bound = slider(controls, "lr_ub", { min: 0.2, max: 4, value: 2 }, again);
    button(controls, "next trial", () => { seen += 1; refresh(); });
    button(controls, "start again", again);
    return (to) => {
      const search = { lrUb: bound.value, beta: beta.value, gamma: gamma.value };
      const one = live.step([start.value], [[1]], LINE, { space: "parameters", ...search });
      if (one.stationary) return "Here no step lowers both losses: the point is Pareto stationary, and the search has nothing to do.";
      const losses = (eta) => live.lossesAt([one.z[0] - eta * one.direction[0]], LINE);
      const top = roundUp(1.1 * Math.max(...one.losses, ...losses(bound.value)));
      const panel = new Panel(to, { x: 46, y: 40, w: 580, h: 240 }, [0, bound.value], [0, top], ["step size η", "loss"]);
      [0, 1].forEach((t) => {
        panel.curve((eta) => losses(eta)[t], `live-t${t + 1}`);
        panel.curve((eta) => one.losses[t] - eta * beta.value * one.slopes[t], `live-t${t + 1} live-dashed`);
      });
      legend(to, 14, [["live-t1", "L₁"], ["live-t1 live-dashed", "its Armijo line"], ["live-t2", "L₂"], ["live-t2 live-dashed", "its Armijo line"]]);
      const shown = one.trials.slice(0, seen);
      shown.forEach((trial) => [0, 1].forEach((t) => {
        const said = `η = ${show(trial.eta)}: L${t + 1} = ${show(trial.losses[t])}, ${trial.passes[t] ? "under" : "above"} its line`;
        panel.mark([trial.eta, trial.losses[t]], trial.passes[t] ? "live-pass" : "live-fail", said);
      }));
      const last = shown[shown.length - 1];
      const failed = last.passes.map((passes, t) => (passes ? "" : `L${"₁₂"[t]}`)).filter(Boolean);
      const said = `Trial ${shown.length}: η = ${show(last.eta)}. `;
      if (last.accepted) return `${said}Both losses lie under their lines: the step is accepted.`;
      return `${said}${failed.join(" and ")} ${failed.length > 1 ? "lie" : "lies"} above the line: rejected, and η is multiplied by γ.`;
    };
  });

  /* -- (b) the plane -------------------------------------------------------------------------------------------- */

  figure("live-plane", 330, "A run on two quadratics", (controls, svg, refresh) => {
    const method = choice(controls, "method", [["latent", "FBLS"], ["gain", "FBLS with the gain"], ["parameters", "BLS"]], refresh);
    const rule = choice(controls, "direction", [["mgda", "MGDA"], ["mean", "mean"], ["edm", "EDM"], ["pcgrad", "PCGrad"]], refresh);
    const scale = slider(controls, "σ₁ of A", { min: 0.3, max: 3, value: 1, log: true }, refresh);
    const ratio = slider(controls, "σ₂/σ₁", { min: 0.1, max: 1, value: 0.6 }, refresh);
    const across = slider(controls, "start z₁", { min: -2.5, max: 2.5, value: -2 }, refresh);
    const up = slider(controls, "start z₂", { min: -2.5, max: 2.5, value: 2.2 }, refresh);
    const left = { x: 46, y: 28, w: 260, h: 250 };
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
    function move(event) {
      const place = svg.getBoundingClientRect();
      const x = ((event.clientX - place.left) * 640) / place.width;
      const y = ((event.clientY - place.top) * 330) / place.height;
      if (x < left.x || x > left.x + left.w || y < left.y || y > left.y + left.h) return;
      event.preventDefault();
      across.set(-3 + (6 * (x - left.x)) / left.w);
      up.set(3 - (6 * (y - left.y)) / left.h);
      refresh();
    }
    return (to) => {
      const A = live.makeEncoder(scale.value, ratio.value);
      const options = { rule: rule.value, space: method.value === "parameters" ? "parameters" : "latent", matchGain: method.value === "gain" };
      const whole = live.walk(live.solve(A, [across.value, up.value]), A, live.PLANE, options, 200);
      const still = whole.findIndex((one, k) => k && Math.hypot(...one.z.map((z, i) => z - whole[k - 1].z[i])) < 1e-3);
      const path = still > 0 ? whole.slice(0, still + 1) : whole;
      const plane = new Panel(to, left, [-3, 3], [-3, 3], ["z₁", "z₂: drag the start"]);
      live.PLANE.centres.forEach((centre, t) => {
        const H = live.PLANE.curvatures[t];
        for (const level of [0.3, 1.2, 3, 6]) {
          plane.line(Array.from({ length: 121 }, (_, k) => {
            const u = [Math.cos((k * Math.PI) / 60), Math.sin((k * Math.PI) / 60)];
            const reach = Math.sqrt((2 * level) / (u[0] * u[0] * H[0][0] + u[1] * u[1] * H[1][1]));
            return [centre[0] + reach * u[0], centre[1] + reach * u[1]];
          }), `live-t${t + 1} live-thin`);
        }
      });
      const front = Array.from({ length: 101 }, (_, k) => [0, 1].map((i) => {
        const weights = live.PLANE.curvatures.map((H, t) => (t ? k / 100 : 1 - k / 100) * H[i][i]);
        return (weights[0] * live.PLANE.centres[0][i] + weights[1] * live.PLANE.centres[1][i]) / (weights[0] + weights[1]);
      }));
      plane.line(front, "live-front");
      plane.line(path.map((one) => one.z), "live-path");
      path.forEach((one) => { if (plane.holds(one.z)) plane.mark(one.z, "live-dot"); });
      plane.mark(path[0].z, "live-start", "start");
      const reach = roundUp(Math.max(3, 1.05 * Math.max(...path[0].losses)));
      const losses = new Panel(to, { x: 366, y: 28, w: 260, h: 250 }, [0, reach], [0, reach], ["L₁", "L₂, with the front"]);
      losses.line(front.map((z) => live.lossesAt(z, live.PLANE)), "live-front");
      losses.line(path.map((one) => one.losses), "live-path");
      path.forEach((one) => { if (losses.holds(one.losses)) losses.mark(one.losses, "live-dot"); });
      const last = path[path.length - 1];
      const trials = path.reduce((sum, one) => sum + one.trials, 0);
      const rose = path.slice(1).some((one, k) => one.losses.some((loss, t) => loss > path[k].losses[t] * (1 + 1e-9)));
      return `${path.length - 1} steps${still > 0 ? " until z moves by less than 0.001" : ""}, ${trials} trials. At the end L₁ = ${show(last.losses[0])}, L₂ = ${show(last.losses[1])}. ` +
        (rose ? "At least one step raised a loss." : "No step raised a loss.");
    };
  });

  /* -- (c) the encoder of one number ------------------------------------------------------------------------------ */

  figure("live-chain", 330, "z = cθ: the next θ over θ", (controls, svg, refresh) => {
    const c = slider(controls, "c", { min: 0.3, max: 2.2, value: Math.SQRT2, step: "any" }, refresh);
    button(controls, "c = √2", () => { c.set(Math.SQRT2); refresh(); });
    const beta = slider(controls, "β", { min: 0.01, max: 0.95, value: 0.1 }, refresh);
    return (to) => {
      const ends = [["latent", "FBLS"], ["parameters", "BLS"]].map(([space, name], k) => {
        const search = { beta: beta.value, gamma: 0.5, lrUb: 1 };
        const next = (theta) => live.chain(theta, c.value, space, search).theta;
        const panel = new Panel(to, { x: 46 + 320 * k, y: 28, w: 260, h: 250 }, [-2, 2], [-2, 2], ["θ now", `${name}: θ after the step`]);
        panel.curve((x) => x, "live-thin live-grey");
        panel.curve(next, `live-t${k + 1}`);
        const web = [[1, 0]];
        let theta = 1;
        for (let i = 0; i < 30; i += 1) {
          const after = next(theta);
          web.push([theta, after], [after, after]);
          theta = after;
        }
        panel.line(web, "live-path");
        panel.mark([1, 0], "live-start", "start, θ = 1");
        return `${name}: |θ| = ${show(Math.abs(theta))} after 30 steps`;
      });
      return `c² = ${show(c.value * c.value)}. ${ends.join("; ")}.`;
    };
  });

  /* -- (d) what a step costs -------------------------------------------------------------------------------------- */

  figure("live-cost", 250, "Parts of a step of five methods", (controls, svg, refresh) => {
    const tasks = slider(controls, "tasks T", { min: 2, max: 10, value: 3, step: 1 }, refresh);
    const share = slider(controls, "encoder's share of a forward and backward", { min: 0.05, max: 0.99, value: 0.8 }, refresh);
    const fbls = slider(controls, "trials of FBLS", { min: 1, max: 10, value: 2, step: 1 }, refresh);
    const bls = slider(controls, "trials of BLS", { min: 1, max: 10, value: 6, step: 1 }, refresh);
    return (to) => {
      const trials = { FBLS: fbls.value, BLS: bls.value };
      const costs = live.METHODS.map((method) => live.cost(method, tasks.value, trials[method] || 0, share.value));
      const totals = costs.map((parts) => Object.values(parts).reduce((a, b) => a + b, 0));
      const unit = 470 / Math.max(...totals);
      costs.forEach((parts, row) => {
        make("text", { x: 92, y: 34 + 38 * row, "text-anchor": "end" }, to, live.METHODS[row]);
        let x = 100;
        Object.entries(parts).forEach(([part, value], k) => {
          const bar = make("rect", { x, y: 17 + 38 * row, width: unit * value, height: 26, class: `live-part${k}` }, to);
          make("title", {}, bar, `${part}: ${show(value)}`);
          x += unit * value;
        });
        make("text", { x: x + 5, y: 34 + 38 * row }, to, `${show(totals[row])} ×`);
      });
      let x = 100;
      Object.keys(costs[0]).forEach((part, k) => {
        make("rect", { x, y: 216, width: 12, height: 12, class: `live-part${k}` }, to);
        make("text", { x: x + 17, y: 227 }, to, part);
        x += 132;
      });
      return `In steps of EqualWeight: SGD ${show(totals[1])}, BLS ${show(totals[3])}, FBLS ${show(totals[4])}. A backward counts as two forwards.`;
    };
  });

  /* -- (e) the gain ----------------------------------------------------------------------------------------------- */

  const PAIR = { centres: [[0], [1]], curvatures: [[[1]], [[2]]] };
  figure("live-gain", 330, "What the test sees and where the step goes", (controls, svg, refresh) => {
    const c = slider(controls, "encoder z = cθ, c", { min: 0.3, max: 3, value: 1.8, log: true }, refresh);
    const bound = slider(controls, "lr_ub", { min: 0.2, max: 3, value: 1 }, refresh);
    const beta = slider(controls, "β", { min: 0.01, max: 0.95, value: 0.1 }, refresh);
    const method = choice(controls, "test", [["", "of FBLS"], ["gain", "with the gain"]], refresh);
    return (to) => {
      const search = { lrUb: bound.value, beta: beta.value, gamma: 0.5, space: "latent", matchGain: method.value === "gain" };
      const one = live.step([2 / c.value], [[c.value]], PAIR, search);
      const reach = search.matchGain ? one.gain : 1;
      const at = (factor) => (eta) => live.lossesAt([2 - eta * factor * one.direction[0]], PAIR);
      const names = [["what the test sees", at(reach)], ["where the step goes", at(one.gain)]];
      names.forEach(([name, losses], k) => {
        const panel = new Panel(to, { x: 46 + 320 * k, y: 28, w: 260, h: 250 }, [0, bound.value], [0, 5], ["step size η", `${name}: L₁, L₂`]);
        [0, 1].forEach((t) => {
          panel.curve((eta) => losses(eta)[t], `live-t${t + 1}`);
          panel.curve(() => one.losses[t], `live-t${t + 1} live-dashed`);
          const fell = losses(one.eta)[t] <= one.losses[t];
          panel.mark([one.eta, losses(one.eta)[t]], fell ? "live-pass" : "live-fail", `L${t + 1} = ${show(losses(one.eta)[t])}`);
        });
      });
      const after = at(one.gain)(one.eta);
      const rose = after.filter((loss, t) => loss > one.losses[t]).length;
      return `Gain ρ = c² = ${show(one.gain)}. Accepted: η = ${show(one.eta)} after ${one.trials.length} trial${one.trials.length > 1 ? "s" : ""}. ` +
        (rose ? `The step raises ${rose === 2 ? "both losses" : "one loss"}.` : "The step lowers both losses.") + " Dashed: the losses before.";
    };
  });
})();
