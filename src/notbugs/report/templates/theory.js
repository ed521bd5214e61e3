"use strict";
// The page's one script: the closed form of Theorem 2 in two dimensions, redrawn as the sliders move.
(() => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const section = document.getElementById("live");
  const svg = section.querySelector("svg");
  const sliders = Object.fromEntries(["radius", "condition", "angle", "size"].map((k) => [k, document.getElementById("live-" + k)]));
  const stops = { radius: settings.radii, condition: settings.conditions, angle: settings.angles, size: settings.sizes };
  const units = {
    radius: (v) => format(v),
    condition: (v) => format(v),
    angle: (v) => format(v) + "°",
    size: (v) => (v ? v.toLocaleString("en") + " samples" : "whole population"),
  };

  function format(v) {
    if (!Number.isFinite(v)) return "infinite";
    if (v === 0) return "0";
    const size = Math.abs(v);
    const text = size < 1e-4 || size >= 1e5 ? v.toExponential(3) : String(Number(v.toPrecision(4)));
    return text.replaceAll("-", "−");
  }

  // Eigenvalues (larger first) and the angle of the first axis, in radians, of [[a, b], [b, c]].
  function eigen(a, b, c) {
    const wide = (a + c) / 2 + Math.hypot((a - c) / 2, b);
    return { values: [wide, (a * c - b * b) / wide], angle: 0.5 * Math.atan2(2 * b, a - c) };
  }

  // lambda of Theorem 2, by bisection on the logarithm of q = 4 / lambda between its two bounds.
  function multiplier(values, radius) {
    if (radius === 0) return Infinity;
    const t = radius * radius;
    const spent = (q) => values.reduce((sum, s) => sum + (q / (2 * (Math.sqrt(s + q) + Math.sqrt(s)))) ** 2, 0);
    let low = Math.log(2 * t);
    let high = Math.log(4 * t + Math.sqrt(16 * t * t + 8 * t * values[0]));
    for (let step = 0; step < 200; step++) {
      const middle = (low + high) / 2;
      if (spent(Math.exp(middle)) < t) low = middle;
      else high = middle;
    }
    return 4 / Math.exp((low + high) / 2);
  }

  function widen(s, lambda) {
    return ((Math.sqrt(s) + Math.sqrt(s + 4 / lambda)) / 2) ** 2;
  }

  // The standard normal distribution function: a series near 0, a continued fraction in the tails.
  function normal(z) {
    const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
    if (Math.abs(z) > 4) {
      let fraction = Math.abs(z);
      for (let k = 60; k > 0; k--) fraction = Math.abs(z) + k / fraction;
      return z < 0 ? density / fraction : 1 - density / fraction;
    }
    let term = z;
    let sum = z;
    for (let k = 3; k < 200; k += 2) sum += term *= (z * z) / k;
    return 0.5 + density * sum;
  }

  // A small seeded generator (mulberry32) and standard normal pairs (Box and Muller).
  function generator(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    return () => {
      const length = Math.sqrt(-2 * Math.log(1 - uniform()));
      const turn = 2 * Math.PI * uniform();
      return [length * Math.cos(turn), length * Math.sin(turn), uniform() < 0.5 ? 1 : -1];
    };
  }

  // Mean and covariance that standard maximum likelihood learns: the population's, or those of a sample.
  function learn(mean, wide, narrow, size) {
    if (size === 0) return { mean, covariance: [wide, 0, narrow], dots: [] };
    const draw = generator(settings.seed + 1);
    const rows = Array.from({ length: size }, () => {
      const [u, v, sign] = draw();
      return [mean[0] + u * Math.sqrt(wide), mean[1] + v * Math.sqrt(narrow), sign];
    });
    const average = (f) => rows.reduce((sum, row) => sum + f(row), 0) / size;
    const centre = [average((r) => r[0]), average((r) => r[1])];
    const covariance = [
      average((r) => (r[0] - centre[0]) ** 2),
      average((r) => (r[0] - centre[0]) * (r[1] - centre[1])),
      average((r) => (r[1] - centre[1]) ** 2),
    ];
    return { mean: centre, covariance, dots: rows.slice(0, 300).map(([x, y, s]) => [s * x, s * y, s]) };
  }

  function compute({ radius, condition, angle, size }) {
    const turn = (angle * Math.PI) / 180;
    const mean = [settings.length * Math.cos(turn), settings.length * Math.sin(turn)];
    const wide = settings.variance;
    const narrow = wide / condition;
    const fitted = learn(mean, wide, narrow, size);
    const standard = eigen(...fitted.covariance);
    const lambda = multiplier(standard.values, radius);
    const values = standard.values.map((s) => widen(s, lambda));
    const axes = [[Math.cos(standard.angle), Math.sin(standard.angle)], [-Math.sin(standard.angle), Math.cos(standard.angle)]];
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
    const solve = (spectrum) => [0, 1].map((i) => axes[0][i] * dot(axes[0], fitted.mean) / spectrum[0] + axes[1][i] * dot(axes[1], fitted.mean) / spectrum[1]);
    const unit = (v) => v.map((x) => x / Math.hypot(...v));
    const direction = unit(solve(values));
    const error = (w, r) => normal(-(dot(w, mean) - r) / Math.sqrt(w[0] * w[0] * wide + w[1] * w[1] * narrow));
    const entry = (i, j) => values[0] * axes[0][i] * axes[0][j] + values[1] * axes[1][i] * axes[1][j];
    return {
      radius, mean, wide, narrow, fitted, direction, angle: standard.angle, values, covariance: [entry(0, 0), entry(0, 1), entry(1, 1)],
      numbers: {
        multiplier: lambda, wide: values[0], narrow: values[1], condition: values[0] / values[1],
        cosine: dot(direction, unit(fitted.mean)), slope: -direction[0] / direction[1],
        clean_error: error(direction, 0), robust_error: error(direction, radius),
        standard_robust_error: error(unit(solve(standard.values)), radius),
      },
    };
  }

  function set(part, attributes, text) {
    const element = svg.querySelector(`[data-part="${part}"]`);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
  }

  function draw(p) {
    const place = (part, centre, axes, turn) => svg.querySelectorAll(`[data-part="${part}"]`).forEach((e) => {
      const { sign, sigma } = e.dataset;
      e.setAttribute("rx", sigma * Math.sqrt(axes[0]));
      e.setAttribute("ry", sigma * Math.sqrt(axes[1]));
      e.setAttribute("transform", `translate(${sign * centre[0]} ${-sign * centre[1]}) rotate(${(-turn * 180) / Math.PI})`);
    });
    place("true", p.mean, [p.wide, p.narrow], 0);
    place("learned", p.fitted.mean, p.values, p.angle);
    const [gx, gy] = p.direction;
    const [mx, my] = p.mean;
    set("ball", { cx: mx, cy: -my, r: p.radius });
    set("boundary", { x1: 60 * gy, y1: 60 * gx, x2: -60 * gy, y2: -60 * gx });
    set("means", { x1: -mx, y1: my, x2: mx, y2: -my });
    set("gradient", { x2: 12 * gx, y2: -12 * gy });
    const keep = (y) => Math.max(-14.3, Math.min(13, y));
    const word = (part, x, y, anchor = "middle") => set("label-" + part, { x, y: -y, "text-anchor": anchor });
    const up = gx >= 0 ? [-gy, gx] : [gy, -gx];
    const reach = Math.min(22.5 / Math.max(Math.abs(up[0]), 1e-9), 12.5 / Math.max(Math.abs(up[1]), 1e-9));
    const side = gx > 0.5 ? "start" : gx < -0.5 ? "end" : "middle";
    word("true", -mx, keep(-my + 2 * Math.sqrt(p.narrow) + 0.9));
    word("learned", p.fitted.mean[0], keep(p.fitted.mean[1] + 2 * Math.sqrt(p.covariance[2]) + 0.9));
    word("ball", mx, keep(my - Math.max(p.radius, 1) - 1.9));
    word("boundary", up[0] * reach, up[1] * reach, up[0] > 0 ? "end" : "start");
    word("means", -0.45 * mx, -0.45 * my - 1.9);
    word("gradient", 13.8 * gx, 13.8 * gy - 0.5, side);
    const dots = svg.querySelector('[data-part="dots"]');
    dots.replaceChildren(...p.fitted.dots.map(([x, y, sign]) => {
      const dot = document.createElementNS(svg.namespaceURI, "path");
      dot.setAttribute("class", "dot");
      dot.setAttribute("d", `M${x - 0.25},${-y}h0.5` + (sign > 0 ? `M${x},${-y - 0.25}v0.5` : ""));
      return dot;
    }));
  }

  function update() {
    const chosen = {};
    for (const [name, slider] of Object.entries(sliders)) {
      chosen[name] = stops[name][slider.valueAsNumber];
      const text = units[name](chosen[name]);
      document.getElementById("shown-" + name).textContent = text;
      slider.setAttribute("aria-valuetext", text);
    }
    const state = compute(chosen);
    draw(state);
    for (const [key, value] of Object.entries(state.numbers)) {
      const cell = section.querySelector(`[data-key="${key}"]`);
      cell.textContent = format(value);
      cell.dataset.value = value;
    }
    const { cosine, robust_error, standard_robust_error } = state.numbers;
    document.getElementById("said").textContent = `Cosine ${format(cosine)}. Robust error ${format(robust_error)}, against ${format(standard_robust_error)} for the standard classifier.`;
    section.dataset.state = JSON.stringify({ ...chosen, mean: state.fitted.mean, covariance: state.fitted.covariance });
  }

  for (const slider of Object.values(sliders)) slider.addEventListener("input", update);
  section.hidden = false;
  update();
})();
