// Which metrics stand together, in which order. What is not named here comes under "More metrics".

const PANELS = [
  { title: "Reward", metrics: ["reward/mean"] },
  { title: "Success", unit: "share",
    metrics: ["episode/success_rate", "eval/success_rate", "eval/greedy_success_rate"] },
  { title: "pass@k on validation tasks", unit: "share", match: /^eval\/pass[@^]/ },
  { title: "Loss", metrics: ["policy/loss"] },
  { title: "KL to the reference", metrics: ["policy/kl"] },
  { title: "Entropy", metrics: ["policy/entropy"], fromZero: true },
  { title: "Logprob difference, trainer to engine", scale: "log",
    metrics: ["policy/logprob_diff_max", "policy/logprob_diff_mean"] },
  { title: "Gradient norm", metrics: ["policy/grad_norm"], fromZero: true },
  { title: "Clipped tokens", unit: "share", metrics: ["policy/clip_fraction"] },
  { title: "Merge ratio", metrics: ["tokens/merge_ratio"], fromZero: true },
  { title: "Tokens of a step", fromZero: true,
    metrics: ["tokens/calls", "tokens/trained_sequence", "tokens/sampled", "tokens/dropped"] },
  { title: "Rollout, tokens per second", fromZero: true, metrics: ["rollout/tokens_per_s"] },
  { title: "Training, tokens per second", fromZero: true, metrics: ["train/tokens_per_s"] },
  { title: "Time of a step, seconds", stacked: true,
    metrics: ["time/rollout_s", "time/train_s", "time/sync_s", "time/eval_s"] },
  { title: "Staleness, versions", metrics: ["staleness/mean", "staleness/max"], fromZero: true },
  { title: "Groups without gradient", unit: "share", metrics: ["group/zero_variance"] },
  { title: "Calls of an episode", metrics: ["episode/num_calls"], fromZero: true },
  { title: "Failed episodes", metrics: ["episode/failed"], fromZero: true },
  { title: "Curriculum", match: /^curriculum\// },
  { title: "Timelines that could not be continued", match: /^timeline\//, fromZero: true },
];

/** [{panel, names}] of those that have a metric, and the names that stand in none. */
export function panelsOf(names) {
  const left = new Set(names.filter((name) => name !== "time"));
  const found = [];
  for (const panel of PANELS) {
    const here = names.filter((name) =>
      panel.match ? panel.match.test(name) : panel.metrics.includes(name));
    if (panel.metrics) here.sort((a, b) => panel.metrics.indexOf(a) - panel.metrics.indexOf(b));
    here.forEach((name) => left.delete(name));
    if (here.length) found.push({ panel, names: here });
  }
  return { found, left: [...left].sort() };
}

/** The last part of a metric's name, for a legend below the panel's title. */
export function labelOf(name, names) {
  const tops = new Set(names.map((each) => each.split("/")[0]));
  return tops.size > 1 || names.length === 1 ? name : name.split("/").slice(1).join("/");
}
