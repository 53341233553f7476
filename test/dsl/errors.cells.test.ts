/** Mistakes in what makes cells of an experiment, and in what is said of them: sweeps, seeds, reports, baselines, arithmetic. */
import { describe, it } from "vitest"
import { head, type Mistake, onlyTold } from "./support.ts"

const table: ReadonlyArray<Mistake> = [
  [
    "a sweep axis that no arm has",
    `${head}sweep:\n  grid:\n    grpo.stepz: [1, 2]\n`,
    "x.yaml:5:5 sweep.grid.grpo.stepz",
    /did you mean grpo\.steps\?/
  ],
  [
    "a bad value of a sweep",
    `${head}sweep:\n  grid:\n    grpo.reward.coverage.shape: [ladder, steep]\n`,
    "x.yaml:5:42 sweep.grid.grpo.reward.coverage.shape.1",
    /one of ladder, linear; got steep/
  ],
  [
    "an axis without list",
    `${head}sweep: { grid: { grpo.steps: 3 } }\n`,
    "x.yaml:3:18 sweep.grid.grpo.steps",
    /list of values/
  ],
  [
    "an axis value twice",
    `${head}sweep: { grid: { grpo.steps: [3, 3] } }\n`,
    "x.yaml:3:18 sweep.grid.grpo.steps",
    /twice/
  ],
  [
    "zip of two lengths",
    `${head}sweep: { zip: { grpo.steps: [3, 4], grpo.groupSize: [4] } }\n`,
    "x.yaml:3:10 sweep.zip",
    /grpo\.steps has 2, grpo\.groupSize has 1/
  ],
  [
    "a sweep that nobody could run",
    `${head}sweep: { grid: { grpo.steps: [${Array.from({ length: 200 }, (_, i) => i)}], warmStart.steps: [${Array.from({ length: 200 }, (_, i) => i)}] } }\n`,
    "x.yaml:3:723 sweep.grid.warmStart.steps",
    /more than 10000 points/
  ],
  [
    "an axis in grid and zip",
    `${head}sweep: { grid: { grpo.steps: [3] }, zip: { grpo.steps: [4] } }\n`,
    "x.yaml:3:44 sweep.zip.grpo.steps",
    /in grid and in zip/
  ],
  [
    "exclude of nothing",
    `${head}sweep: { grid: { grpo.steps: [3, 4] }, exclude: [{ grpo.steps: 5 }] }\n`,
    "x.yaml:3:50 sweep.exclude.0",
    /excludes no point/
  ],
  [
    "exclude by a strange axis",
    `${head}sweep: { grid: { grpo.steps: [3, 4] }, exclude: [{ grpo.step: 3 }] }\n`,
    "x.yaml:3:52 sweep.exclude.0.grpo.step",
    /did you mean grpo\.steps\?/
  ],
  [
    "everything excluded",
    `${head}sweep: { grid: { grpo.steps: [3] }, exclude: [{ grpo.steps: 3 }] }\n`,
    "x.yaml:3:8 sweep",
    /no points/
  ],
  [
    "an unknown part of sweep",
    `${head}sweep: { gird: { grpo.steps: [3] } }\n`,
    "x.yaml:3:10 sweep.gird",
    /did you mean grid\?/
  ],
  ["no seeds", `${head}seeds: { count: -1 }\n`, "x.yaml:3:17 seeds.count", /got -1/],
  ["seeds that nobody could run", `${head}seeds: { count: 100000000 }\n`, "x.yaml:3:17 seeds.count", /1 and 10000/],
  ["an empty list of seeds", `${head}seeds: { list: [] }\n`, "x.yaml:3:10 seeds.list", /at least one value/],
  ["two kinds of seeds", `${head}seeds: { count: 1, list: [1] }\n`, "x.yaml:3:1 seeds", /count or list/],
  ["equal seeds", `${head}seeds: { list: [1, 1] }\n`, "x.yaml:3:10 seeds.list", /differ/],
  ["vary of an unknown node", `${head}seeds: { vary: [gpro] }\n`, "x.yaml:3:17 seeds.vary.0", /did you mean grpo\?/],
  [
    "vary of an unseeded node",
    `${head}seeds: { vary: [grpo, evaluate] }\n`,
    "x.yaml:3:23 seeds.vary.1",
    /uses no seed.*seeded nodes: data/
  ],
  [
    "an unknown metric",
    `${head}report: { metrics: [eval/coverage/exat] }\n`,
    "x.yaml:3:21 report.metrics.0",
    /did you mean eval\/coverage\/exact\?/
  ],
  [
    "a metric of steps, by which arms are not compared",
    `${head}report: { metrics: [reward] }\n`,
    "x.yaml:3:21 report.metrics.0",
    /reward is a metric of a stage's steps; .*exp compare --metric NODE:reward.*eval\/coverage\/exact/
  ],
  [
    "a gate on an unknown metric",
    `${head}report: { gates: [{ metric: nope, min: 1 }] }\n`,
    "x.yaml:3:29 report.gates.0.metric",
    /no stage .* metric nope/
  ],
  [
    "a gate on an unknown arm",
    `${head}report: { gates: [{ metric: eval/coverage/exact, arm: b, min: 1 }] }\n`,
    "x.yaml:3:55 report.gates.0.arm",
    /no arm b/
  ],
  [
    "a gate without bound",
    `${head}report: { gates: [{ metric: loss }] }\n`,
    "x.yaml:3:19 report.gates.0",
    /min or max/
  ],
  [
    "an unknown baseline",
    "name: x\narms: { warm: { pipeline: plain }, op: { pipeline: op } }\nbaseline: wram\n",
    "x.yaml:3:11 baseline",
    /did you mean warm\?/
  ],
  [
    "a baseline off the axes",
    `${head}sweep: { grid: { grpo.steps: [3, 4] } }\nbaseline: { grpo.step: 3 }\n`,
    "x.yaml:4:13 baseline.grpo.step",
    /did you mean grpo\.steps\?/
  ],
  [
    "a baseline off the values",
    `${head}sweep: { grid: { grpo.steps: [3, 4] } }\nbaseline: { grpo.steps: 5 }\n`,
    "x.yaml:4:25 baseline.grpo.steps",
    /it has 3, 4/
  ],
  ["too many threads", `${head}compute: { threads: 0 }\n`, "x.yaml:3:21 compute.threads", /got 0/],
  ["an unknown dtype", `${head}compute: { dtype: f16 }\n`, "x.yaml:3:19 compute.dtype", /one of f32, bf16; got f16/]
]

describe("a mistake is told where it stands", () => {
  it.each(table)("%s", (_, ...mistake) => onlyTold(...mistake))
})
