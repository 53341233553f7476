/** `exp compare EXPERIMENT...`: paired differences for any metrics and any grouping, against any baseline. */
import { Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { usage } from "./failure.ts"
import { json, warehouseDir } from "./root.ts"

export const compare = Command.make(
  "compare",
  {
    experiments: Argument.String("EXPERIMENT").pipe(
      Argument.withDescription("Experiments of the warehouse (`exp ls`); with several, arms are called experiment/arm"),
      Argument.atLeast(1)
    ),
    metrics: Flag.String("metric").pipe(
      Flag.withDescription(
        "A metric, or several by `*`; NODE:NAME is one of a node's steps (repeatable; default: the reports' own)"
      ),
      Flag.withMetavar("NAME"),
      Flag.atLeast(0)
    ),
    last: Flag.Int("last").pipe(
      Flag.withDescription("A metric of steps is the mean of a run's last N steps"),
      Flag.withMetavar("N"),
      Flag.withDefault(10)
    ),
    arms: Flag.String("arm").pipe(
      Flag.withDescription("Only these arms (or values of --by) beside the baseline (repeatable)"),
      Flag.withMetavar("NAME"),
      Flag.atLeast(0)
    ),
    by: Flag.String("by").pipe(
      Flag.withDescription("Group by this parameter in place of arms, e.g. grpo.reward.coverage.shape"),
      Flag.withMetavar("KEY"),
      Flag.optional
    ),
    baseline: Flag.String("baseline").pipe(
      Flag.withDescription(
        "The arm (or value of --by) that the others are compared with (default: the experiments' own)"
      ),
      Flag.withMetavar("NAME"),
      Flag.optional
    ),
    json,
    csv: Flag.Boolean("csv").pipe(Flag.withDescription("Print CSV"), Flag.withDefault(false))
  },
  Effect.fn("exp.compare")(function* (given) {
    if (given.last < 1) return yield* usage(`--last is a number of steps from 1 on, not ${given.last}`)
    if (given.json && given.csv) return yield* usage("--json and --csv are two formats; give one")
    const dir = yield* warehouseDir()
    const { comparison } = yield* Effect.promise(() => import("./comparing.ts"))
    return yield* comparison({
      dir,
      experiments: [...new Set(given.experiments)],
      metrics: given.metrics,
      last: given.last,
      arms: given.arms,
      by: Option.getOrUndefined(given.by),
      baseline: Option.getOrUndefined(given.baseline),
      format: given.json ? "json" : given.csv ? "csv" : "text"
    })
  })
).pipe(
  Command.withDescription("Compare arms, or values of a parameter: paired differences, intervals, corrected tests"),
  Command.withExamples([
    {
      command: "exp compare quickstart --metric 'eval/f1/*'",
      description: "Every arm against the experiment's baseline"
    },
    {
      command: "exp compare grpo-family --metric grpo:frac_reward_zero_std --last 5",
      description: "What was measured once a step"
    },
    {
      command: "exp compare ladder-vs-linear --by grpo.reward.coverage.shape --baseline linear",
      description: "Values of a swept parameter, all others equal"
    }
  ])
)
