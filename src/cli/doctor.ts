/** `exp doctor`: what this machine has, and what to do where something is missing. Exit 1 where something is broken. */
import { Console, Effect, Result } from "effect"
import { Command } from "effect/cli"
import { environmentOf, executorFile, under } from "./executor.ts"
import { Code, silently } from "./failure.ts"
import { paintFor, type Style } from "./format.ts"
import { json, warehouseDir } from "./root.ts"

const styles: Readonly<Record<"ok" | "warn" | "fail", Style>> = { ok: "green", warn: "yellow", fail: "red" }

export const doctor = Command.make(
  "doctor",
  { json },
  Effect.fn("exp.doctor")(function* ({ json }) {
    const dir = yield* warehouseDir()
    const { examine } = yield* Effect.promise(() => import("./machine.ts"))
    const file = yield* executorFile(process.cwd())
    const { loadExecutor } = yield* Effect.promise(() => import("../dsl/executor.ts"))
    const said = file === undefined ? undefined : yield* Effect.result(loadExecutor(file))
    const good = said === undefined || Result.isFailure(said) ? undefined : said.success
    const checks = yield* under(environmentOf(good))(Effect.promise(() => examine(dir, said)))
    const healthy = checks.every((check) => check.state !== "fail")
    if (json) {
      yield* Console.log(JSON.stringify({ ok: healthy, checks }))
    } else {
      const paint = paintFor(process.stdout)
      const width = Math.max(...checks.map((check) => check.name.length))
      for (const { name, state, detail, remedy } of checks) {
        yield* Console.log(`${paint(styles[state], state.padEnd(4))}  ${name.padEnd(width)}  ${detail}`)
        if (remedy !== null) yield* Console.log(`${" ".repeat(width + 8)}${remedy}`)
      }
    }
    if (!healthy) return yield* silently(Code.internal)
  })
).pipe(Command.withDescription("Say what this machine has and what is missing"))
