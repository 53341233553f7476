/** `exp ls`: the experiments of the warehouse, their cells by state, and when they last ran. */
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { json, warehouseDir } from "./root.ts"

export const ls = Command.make(
  "ls",
  { json },
  Effect.fn("exp.ls")(function* ({ json }) {
    const dir = yield* warehouseDir()
    const [{ rows }, { experiments }, { rowsTable }] = yield* Effect.promise(() =>
      Promise.all([import("../warehouse/sql.ts"), import("./inspect.ts"), import("./rows.ts")])
    )
    const found = yield* rows(dir, experiments)
    if (json) return yield* Console.log(JSON.stringify({ warehouse: dir, experiments: found }))
    yield* Console.log(found.length === 0 ? `${dir} has no experiment yet` : rowsTable(found, process.stdout.columns))
  })
).pipe(Command.withDescription("List the experiments of the warehouse"))
