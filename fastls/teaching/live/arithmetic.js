// What the live figures compute: the searches and directions of fastls for two tasks, in plain numbers.
// tests/teaching/test_live.py compares every function here with fastls.
const arithmetic = (() => {
  const FLOOR = 1e-10;

  // Backtracking: every trial, and the first η in lrUb, γ lrUb, ... with φ_t(η) ≤ L_t − ηβ s_t for every t.
  function backtrack(phi, losses, slopes, lrUb, beta, gamma) {
    const trials = [];
    if (!slopes.every((s) => s > 0)) return { eta: FLOOR, accepted: false, trials };
    for (let eta = lrUb; eta >= FLOOR; eta = lrUb * gamma ** trials.length) {
      const at = phi(eta);
      const accepted = at.every((loss, t) => loss <= losses[t] - eta * beta * slopes[t]);
      trials.push({ eta, losses: at, accepted });
      if (accepted) return { eta, accepted, trials };
    }
    return { eta: FLOOR, accepted: false, trials };
  }

  // Weights α of two gradients from their Gramian.
  const rules = {
    mean: () => [0.5, 0.5],
    mgda: ([[a, b], [, c]]) => {
      const distance = a - 2 * b + c;
      const first = distance > 0 ? Math.min(Math.max((c - b) / distance, 0), 1) : 0.5;
      return [first, 1 - first];
    },
    edm: ([[a], [, c]]) => {
      const [n1, n2] = [Math.sqrt(a), Math.sqrt(c)];
      return n1 + n2 > 0 ? [n2 / (n1 + n2), n1 / (n1 + n2)] : [0.5, 0.5];
    },
    pcgrad: ([[a, b], [, c]]) => (b < 0 ? [1 - b / a, 1 - b / c] : [1, 1]),
  };

  // (a), (e): one step on L_1 = z²/2, L_2 = (z − 1)², z = √ρ θ, from z = 2. Here d_z = 2 and the slopes are 4 = 2 · 2.
  const START = 2;
  const parabolas = (z) => [z ** 2 / 2, (z - 1) ** 2];
  function stepOnParabolas({ beta, gamma, lrUb, gain }) {
    const slopes = [4, 4];
    const tried = (eta) => parabolas(START - 2 * eta);
    const taken = (eta) => parabolas(START - 2 * gain * eta);
    const losses = parabolas(START);
    const search = backtrack(tried, losses, slopes, lrUb, beta, gamma);
    return { ...search, losses, slopes, tried, taken, after: taken(search.eta) };
  }

  // (b): two quadratics of z = Aθ, A = s Q diag(1, κ), Q the rotation by 30 degrees: those of notebook 02.
  const CENTRES = [[-1, -0.5], [1, 0.5]];
  const CURVATURES = [[4, 0.5], [0.5, 2]]; // diagonals of H_1 and H_2
  const lossesAt = (z) =>
    CENTRES.map((c, t) => (CURVATURES[t][0] * (z[0] - c[0]) ** 2 + CURVATURES[t][1] * (z[1] - c[1]) ** 2) / 2);
  const gradientsAt = (z) => CENTRES.map((c, t) => [0, 1].map((i) => CURVATURES[t][i] * (z[i] - c[i])));
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1];
  function metric(s, kappa) { // A Aᵀ
    const [c, d] = [Math.cos(Math.PI / 6), Math.sin(Math.PI / 6)];
    const k = kappa ** 2;
    return [[s * s * (c * c + k * d * d), s * s * (1 - k) * c * d], [s * s * (1 - k) * c * d, s * s * (d * d + k * c * c)]];
  }
  const apply = (M, v) => [dot(M[0], v), dot(M[1], v)];
  const combine = (weights, vectors) => [0, 1].map((i) => weights[0] * vectors[0][i] + weights[1] * vectors[1][i]);
  function stepInPlane(z, { space, search, rule, s, kappa, lr }) {
    const M = metric(s, kappa);
    const g = gradientsAt(z);
    const inner = space === "latent" ? (v) => v : (v) => apply(M, v);
    const gramian = g.map((u) => g.map((v) => dot(u, inner(v))));
    const weights = rules[rule](gramian);
    const slopes = gramian.map((row) => dot(row, weights));
    const d = combine(weights, g);
    const tested = inner(d);
    const moved = apply(M, d);
    const phi = (eta) => lossesAt([z[0] - eta * tested[0], z[1] - eta * tested[1]]);
    const found = search ? backtrack(phi, lossesAt(z), slopes, lr, 0.1, 0.5) : { eta: lr, accepted: true, trials: [] };
    return { ...found, z: [z[0] - found.eta * moved[0], z[1] - found.eta * moved[1]] };
  }
  // Length of the shortest convex combination of the gradients in θ.
  function gapAt(z, s, kappa) {
    const M = metric(s, kappa);
    const g = gradientsAt(z);
    const gramian = g.map((u) => g.map((v) => dot(u, apply(M, v))));
    const weights = rules.mgda(gramian);
    return Math.sqrt(Math.max(dot(weights, gramian.map((row) => dot(row, weights))), 0));
  }
  // The path of z until the gap is below 1e-6, a search is refused, z leaves the picture, or the steps are used up.
  function pathInPlane(start, options, steps) {
    const path = [start];
    for (let k = 0; k < steps; k++) {
      const z = path[path.length - 1];
      if (gapAt(z, options.s, options.kappa) < 1e-6) return { path, outcome: "arrived" };
      const step = stepInPlane(z, options);
      if (!step.accepted) return { path, outcome: "refused" };
      path.push(step.z);
      if (!(Math.hypot(...step.z) < 1e3)) return { path, outcome: "diverged" };
    }
    return { path, outcome: "not arrived" };
  }
  const paretoPoint = (w) =>
    [0, 1].map((i) => {
      const h = [w * CURVATURES[0][i], (1 - w) * CURVATURES[1][i]];
      return (h[0] * CENTRES[0][i] + h[1] * CENTRES[1][i]) / (h[0] + h[1]);
    });

  // (c): z = cθ, L = z²/2 from θ, lr_ub = 1, γ = 1/2: the factor of one step of BLS and of FBLS, θ ← factor · θ.
  function chainFactor(method, c, beta) {
    const trial = method === "BLS" ? (eta) => 1 - eta * c * c : (eta) => 1 - eta;
    const slope = method === "BLS" ? c ** 4 : c * c;
    const { eta } = backtrack((e) => [(c * trial(e)) ** 2 / 2], [c * c / 2], [slope], 1, beta, 0.5);
    return { eta, factor: 1 - eta * c * c };
  }

  // (d): passes of one step, [encoder forward, encoder backward, decoder forward, decoder backward].
  function countPasses(method, tasks, trials) {
    const decoders = method === "BLS" || method === "FBLS" ? tasks * (1 + trials) : tasks;
    const forward = method === "BLS" ? 1 + trials : 1;
    const backward = method === "SGD" || method === "BLS" ? tasks : 1;
    return [forward, backward, decoders, tasks];
  }
  // Time of a step where a forward of the encoder and all decoders is 1 and a backward twice a forward; numbers held for gradients.
  function priceStep(method, tasks, trials, share) {
    const [f, b, F, B] = countPasses(method, tasks, trials);
    return share * (f + 2 * b) + ((1 - share) / tasks) * (F + 2 * B);
  }

  return {
    backtrack, rules, stepOnParabolas, lossesAt, pathInPlane, paretoPoint, chainFactor, countPasses, priceStep, parabolas,
  };
})();
