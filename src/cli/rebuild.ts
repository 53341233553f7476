/** `exp rebuild`: the databases made again from journals and artifacts. */
import { existsSync } from "node:fs"
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { usage } from "./failure.ts"
import { json, warehouseDir } from "./root.ts"

export const rebuild = Command.make(
  "rebuild",
  { json },
  Effect.fn("exp.rebuild")(function* ({ json }) {
    const dir = yield* warehouseDir()
    if (!existsSync(dir)) return yield* usage(`there is no warehouse at ${dir}: --warehouse names another folder`)
    const { rebuild } = yield* Effect.promise(() => import("../warehouse/rebuild.ts"))
    const counts = yield* rebuild(dir)
    if (json) return yield* Console.log(JSON.stringify({ warehouse: dir, rows: counts }))
    const { rowsTable } = yield* Effect.promise(() => import("./rows.ts"))
    const rows = Object.entries(counts).map(([name, n]) => ({ table: name, rows: n }))
    yield* Console.log(rowsTable(rows))
  })
).pipe(Command.withDescription("Remake the databases from journals and artifacts"))
