/** `exp run FILE`: plans, runs what is not done, shows the ablation. */
import { Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { cardsHere, executing, under } from "./executor.ts"
import { usage } from "./failure.ts"
import { json, located, set, warehouseDir } from "./root.ts"

export const run = Command.make(
  "run",
  {
    file: Argument.String("FILE").pipe(Argument.withDescription("The experiment, a YAML file")),
    set,
    jobs: Flag.Int("jobs").pipe(
      Flag.withDescription("Tasks at once, at most (results do not depend on it)"),
      Flag.withMetavar("N"),
      Flag.optional
    ),
    devices: Flag.Int("devices").pipe(
      Flag.withDescription("Devices that share each task (results agree within rounding)"),
      Flag.withMetavar("N"),
      Flag.optional
    ),
    mesh: Flag.String("mesh").pipe(
      Flag.withDescription("How they are arranged: data, fsdp, model, e.g. data=2,model=2; default: all data"),
      Flag.withMetavar("AXIS=N,..."),
      Flag.optional
    ),
    keepGoing: Flag.Boolean("keep-going").pipe(
      Flag.withDescription("After a failure go on with what does not depend on it (the default)"),
      Flag.withDefault(false)
    ),
    failFast: Flag.Boolean("fail-fast").pipe(
      Flag.withDescription("Stop at the first failure"),
      Flag.withDefault(false)
    ),
    only: Flag.String("only").pipe(
      Flag.withDescription("Run up to and with this node, e.g. estimator"),
      Flag.withMetavar("NODE"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(Flag.withDescription("The first N cells"), Flag.withMetavar("N"), Flag.optional),
    json
  },
  Effect.fn("exp.run")(function* (given) {
    const jobs = Option.getOrUndefined(given.jobs)
    const limit = Option.getOrUndefined(given.limit)
    if (given.keepGoing && given.failFast)
      return yield* usage("--keep-going and --fail-fast say opposite things; give one")
    if (jobs !== undefined && jobs < 1) return yield* usage(`--jobs ${jobs}: at least one task must run at a time`)
    if (limit !== undefined && limit < 1) return yield* usage(`--limit ${limit}: a run has at least one cell`)
    const file = located(given.file)
    const where = yield* executing(file, given.json, {
      devices: Option.getOrUndefined(given.devices),
      mesh: Option.getOrUndefined(given.mesh)
    })
    const running = Effect.gen(function* () {
      const cards = yield* cardsHere(where)
      const warehouse = yield* warehouseDir(file)
      const { runExperiment } = yield* Effect.promise(() => import("./running.ts"))
      return yield* runExperiment({
        file,
        named: given.file,
        set: given.set,
        warehouse,
        provider: where.provider,
        cards,
        jobs: jobs ?? where.jobs,
        mesh: where.mesh,
        flags: where.flags,
        failFast: given.failFast,
        only: Option.getOrUndefined(given.only),
        limit,
        json: given.json
      })
    })
    return yield* under(where.environment)(running)
  })
).pipe(
  Command.withDescription("Run an experiment: what is done already is reused, what was interrupted goes on"),
  Command.withExamples([
    { command: "exp run experiments/quickstart.yaml", description: "Run it all" },
    {
      command: "exp run experiments/quickstart.yaml --set grpo.steps=10 --limit 4",
      description: "A smaller version, four cells"
    }
  ])
)
