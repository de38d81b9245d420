/* The arithmetic of the live figures: the searches and direction rules of fastls for two tasks, nothing of the page.
   tests/test_live.py runs this file with node and compares it with fastls. */
(function (root) {
  "use strict";

  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const times = (matrix, vector) => matrix.map((row) => dot(row, vector));
  const transpose = (matrix) => matrix[0].map((_, j) => matrix.map((row) => row[j]));
  const along = (point, direction, eta) => point.map((value, i) => value - eta * direction[i]);
  const combine = (weights, vectors) => vectors[0].map((_, i) => weights[0] * vectors[0][i] + weights[1] * vectors[1][i]);
  const gramian = (g) => g.map((a) => g.map((b) => dot(a, b)));

  /* Direction rules: Gramian of two gradients -> weights, as in fastls.algorithms.directions. */
  const RULES = {
    mean: () => [0.5, 0.5],
    mgda: (G) => {
      const distance = G[0][0] - 2 * G[0][1] + G[1][1];
      const first = distance > 0 ? Math.min(1, Math.max(0, (G[1][1] - G[0][1]) / distance)) : 0.5;
      return [first, 1 - first];
    },
    edm: (G) => {
      const [a, b] = [Math.sqrt(G[0][0]), Math.sqrt(G[1][1])];
      return a + b > 0 ? [b / (a + b), a / (a + b)] : [0.5, 0.5];
    },
    pcgrad: (G) => (G[0][1] < 0 ? [1 - G[0][1] / G[0][0], 1 - G[0][1] / G[1][1]] : [1, 1]),
  };

  /* The first of lrUb, γ lrUb, γ² lrUb, ... with phi(η)_t ≤ L_t − η β s_t for every t. */
  function backtrack(phi, losses, slopes, { lrUb = 1, beta = 0.1, gamma = 0.5, floor = 1e-10 } = {}) {
    const trials = [];
    for (let eta = lrUb; eta >= floor; eta = lrUb * Math.pow(gamma, trials.length)) {
      const found = phi(eta);
      const passes = found.map((value, t) => Number.isFinite(value) && value <= losses[t] - eta * beta * slopes[t]);
      trials.push({ eta, losses: found, passes, accepted: passes.every(Boolean) });
      if (passes.every(Boolean)) return { eta, trials, accepted: true };
    }
    return { eta: floor, trials, accepted: false };
  }

  const quadratic = (z, centre, curvature) => {
    const offset = z.map((value, i) => value - centre[i]);
    const gradient = times(curvature, offset);
    return { loss: dot(offset, gradient) / 2, gradient };
  };

  /* The two losses of notebook 02, and its encoder z = Aθ with A = Q diag(σ₁, σ₂), Q a rotation by 30 degrees. */
  const PLANE = { centres: [[-1, -0.5], [1, 0.5]], curvatures: [[[4, 0], [0, 0.5]], [[0.5, 0], [0, 2]]] };
  const makeEncoder = (scale, ratio) => {
    const [cos, sin] = [Math.cos(Math.PI / 6), Math.sin(Math.PI / 6)];
    return [[scale * cos, -scale * ratio * sin], [scale * sin, scale * ratio * cos]];
  };
  const solve = (A, z) => {
    const det = A[0][0] * A[1][1] - A[0][1] * A[1][0];
    return [(A[1][1] * z[0] - A[0][1] * z[1]) / det, (A[0][0] * z[1] - A[1][0] * z[0]) / det];
  };
  const evaluate = (z, problem) => problem.centres.map((centre, t) => quadratic(z, centre, problem.curvatures[t]));
  const lossesAt = (z, problem) => evaluate(z, problem).map((one) => one.loss);

  /* One step of BLS (space "parameters") or FBLS (space "latent") on z = Aθ. */
  function step(theta, A, problem, { rule = "mgda", space = "latent", matchGain = false, ...search } = {}) {
    const z = times(A, theta);
    const found = evaluate(z, problem);
    const losses = found.map((one) => one.loss);
    const latent = found.map((one) => one.gradient);
    const g = space === "latent" ? latent : latent.map((row) => times(transpose(A), row));
    const G = gramian(g);
    const alpha = RULES[rule](G);
    const d = combine(alpha, g);
    const shared = space === "latent" ? times(transpose(A), d) : d;
    const gain = space === "latent" ? dot(shared, shared) / dot(d, d) : null;
    if (dot(d, d) <= 1e-28) return { theta, z, losses, alpha, gain, eta: 0, trials: [], accepted: false, stationary: true };
    const reach = matchGain && space === "latent" ? gain : 1;
    const slopes = times(G, alpha).map((slope) => reach * slope);
    const phi = (eta) => lossesAt(space === "latent" ? along(z, d, eta * reach) : times(A, along(theta, d, eta)), problem);
    const result = backtrack(phi, losses, slopes, search);
    return { ...result, theta: along(theta, shared, result.eta), z, losses, alpha, gain, slopes, direction: d, stationary: false };
  }

  /* Steps one after the other: θ, z and losses before each, and those at the end. */
  function walk(start, A, problem, options, steps) {
    const path = [];
    let theta = start;
    for (let k = 0; k < steps; k += 1) {
      const one = step(theta, A, problem, options);
      path.push({ theta, z: one.z, losses: one.losses, eta: one.eta, trials: one.trials.length });
      if (one.stationary || one.losses.some((loss) => !(loss < 1e6))) return path;
      theta = one.theta;
    }
    const z = times(A, theta);
    path.push({ theta, z, losses: lossesAt(z, problem), eta: 0, trials: 0 });
    return path;
  }

  /* z = cθ with L = z²/2: one step of either search from θ. */
  function chain(theta, c, space, search) {
    const z = c * theta;
    const [d, move] = space === "latent" ? [z, c * z] : [c * z, c * z];
    const phi = (eta) => [Math.pow(space === "latent" ? z - eta * d : c * (theta - eta * d), 2) / 2];
    const result = z === 0 ? { eta: 0, trials: [] } : backtrack(phi, [z * z / 2], [d * d], search);
    return { ...result, theta: theta - result.eta * move };
  }

  /* Passes of a step, and what they cost with the encoder's share of one forward and backward of the whole network. */
  const METHODS = ["EqualWeight", "SGD", "MGDA-UB", "BLS", "FBLS"];
  function passes(method, tasks, trials) {
    const searches = method === "BLS" || method === "FBLS";
    return {
      encoderForward: 1 + (method === "BLS" ? trials : 0),
      encoderBackward: method === "SGD" || method === "BLS" ? tasks : 1,
      decoderForward: tasks * (1 + (searches ? trials : 0)),
      decoderBackward: tasks,
    };
  }
  /* Parts of a step in units of EqualWeight's; a backward costs two forwards. */
  function cost(method, tasks, trials, share) {
    const count = passes(method, tasks, trials);
    const [encoder, decoder] = [share / 3, (1 - share) / 3 / tasks];
    return {
      "encoder forward": count.encoderForward * encoder,
      "encoder backward": 2 * count.encoderBackward * encoder,
      "decoders forward": count.decoderForward * decoder,
      "decoders backward": 2 * count.decoderBackward * decoder,
    };
  }

  const api = { RULES, PLANE, METHODS, backtrack, makeEncoder, solve, times, step, walk, chain, passes, cost, lossesAt, evaluate };
  if (typeof module !== "undefined") module.exports = api;
  else root.fastlsLive = api;
})(this);
