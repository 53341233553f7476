/** `exp plan FILE`: what a run would do, and why. Runs and creates nothing. */
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { executing } from "./executor.ts"
import { paintFor } from "./format.ts"
import { json, located, set, warehouseDir } from "./root.ts"

export const plan = Command.make(
  "plan",
  { file: Argument.String("FILE").pipe(Argument.withDescription("The experiment, a YAML file")), set, json },
  Effect.fn("exp.plan")(function* ({ file: named, set, json }) {
    const file = located(named)
    const { provider } = yield* executing(file, json)
    const warehouse = yield* warehouseDir(file)
    const { planned } = yield* Effect.promise(() => import("./planning.ts"))
    const { planJson, planLines } = yield* Effect.promise(() => import("./planView.ts"))
    const { plan } = yield* planned({ file, set, warehouse, provider, json })
    if (json) return yield* Console.log(JSON.stringify(planJson(plan)))
    for (const line of planLines(plan, process.stdout.columns, paintFor(process.stdout))) yield* Console.log(line)
  })
).pipe(Command.withDescription("Say what a run would do and why, without doing it"))
