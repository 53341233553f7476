/** `exp sql QUERY`: one reading statement over the published database. */
import { Console, Effect, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Stdio from "effect/Stdio"
import { warehouseDir } from "./root.ts"

export const sql = Command.make(
  "sql",
  {
    query: Argument.String("QUERY").pipe(Argument.withDescription('One statement that reads, e.g. "from ablation"')),
    format: Flag.Literals("format", ["table", "json", "csv", "parquet"]).pipe(
      Flag.withDescription("How the answer is written"),
      Flag.withDefault("table")
    )
  },
  Effect.fn("exp.sql")(function* ({ query: text, format }) {
    const dir = yield* warehouseDir()
    const { query } = yield* Effect.promise(() => import("../warehouse/sql.ts"))
    const width = process.stdout.isTTY ? { width: process.stdout.columns } : {}
    const answer = yield* query(dir, text, format, width)
    if (typeof answer === "string") return yield* Console.log(answer)
    const { stdout } = yield* Stdio.Stdio
    yield* Stream.run(Stream.make(answer), stdout())
  })
).pipe(
  Command.withDescription("Ask the warehouse a question"),
  Command.withExamples([
    { command: 'exp sql "from ablation"', description: "Every arm against its baseline" },
    { command: 'exp sql "from cells" --format json', description: "For scripts" }
  ])
)
