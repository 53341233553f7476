/** `exp doctor`: what this machine has, and what to do where something is missing. Exit 1 where something is broken. */
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
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
    const checks = yield* Effect.promise(() => examine(dir))
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
