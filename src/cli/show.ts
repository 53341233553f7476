/** `exp show ID`: one experiment, cell, task, attempt, artifact or sample, with what belongs to it. */
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { usage } from "./failure.ts"
import { paintFor } from "./format.ts"
import type { Kind } from "./inspect.ts"
import { json, warehouseDir } from "./root.ts"

export const show = Command.make(
  "show",
  {
    id: Argument.String("ID").pipe(
      Argument.withDescription(
        "An experiment, a cell, an attempt, or a prefix of a task key, artifact hash or sample id"
      )
    ),
    json
  },
  Effect.fn("exp.show")(function* ({ id, json }) {
    const dir = yield* warehouseDir()
    const [{ rows }, { candidates, parts }, { fields, rowsTable }] = yield* Effect.promise(() =>
      Promise.all([import("../warehouse/sql.ts"), import("./inspect.ts"), import("./rows.ts")])
    )
    let found: ReadonlyArray<{ readonly kind: Kind; readonly id: string }> = []
    for (const query of id === "" ? [] : candidates(id)) {
      if (found.length > 0) break
      found = (yield* rows(dir, query)).map((row) => ({ kind: row["kind"] as Kind, id: String(row["id"]) }))
    }
    const [one, ...others] = found
    if (one === undefined) {
      return yield* usage(
        `nothing in ${dir} is called ${JSON.stringify(id)}. \`exp ls\` lists its experiments, \`exp sql "from tasks"\` its tasks`
      )
    }
    if (others.length > 0) {
      const list = found.slice(0, 20).map((each) => `  ${each.kind}  ${each.id}`)
      return yield* usage(
        `${JSON.stringify(id)} could be ${found.length > 20 ? "more than 20 things" : "any of these"}:\n${list.join("\n")}`
      )
    }
    const lists: Record<string, unknown> = {}
    const paint = paintFor(process.stdout)
    for (const part of parts(one.kind, one.id)) {
      const answer = yield* rows(dir, part.sql)
      if (part.one) Object.assign(lists, answer[0])
      else lists[part.name] = answer
      if (json || (answer.length === 0 && !part.one)) continue
      yield* part.one
        ? Console.log(`${paint("bold", one.kind)}\n${fields(answer[0] ?? {})}`)
        : Console.log(`\n${paint("bold", part.name)}\n${rowsTable(answer, process.stdout.columns)}`)
    }
    if (json) yield* Console.log(JSON.stringify({ kind: one.kind, ...lists }))
  })
).pipe(Command.withDescription("Show one thing of the warehouse with what belongs to it"))
