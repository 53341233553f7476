/** The `exp` command: commands and layers. Each command loads what it needs when it is called, so that the rest stays quick. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Exit, Layer } from "effect"
import { Command } from "effect/cli"
import manifest from "../package.json" with { type: "json" }
import { bench } from "./cli/bench.ts"
import { doctor } from "./cli/doctor.ts"
import { Code, report } from "./cli/failure.ts"
import { ls } from "./cli/ls.ts"
import { plan } from "./cli/plan.ts"
import * as present from "./cli/present.ts"
import { rebuild } from "./cli/rebuild.ts"
import { root } from "./cli/root.ts"
import { run } from "./cli/run.ts"
import { schema } from "./cli/schema.ts"
import { show } from "./cli/show.ts"
import { sql } from "./cli/sql.ts"

export const exp = root.pipe(Command.withSubcommands([run, plan, ls, show, sql, schema, doctor, bench, rebuild]))

const layers = Layer.mergeAll(NodeServices.layer, present.layer)

/** Runs a command line (without `node` and the script) to its exit code; says on stderr what went wrong. */
export const main = (argv: ReadonlyArray<string>): Effect.Effect<Code> =>
  Command.runWith(exp, { version: manifest.version, renderErrors: true })(argv).pipe(
    Effect.as<Code>(Code.ok),
    Effect.catchCause((cause) => {
      const { code, text } = report(cause)
      return Effect.as(text === "" ? Effect.void : Console.error(text), code)
    }),
    Effect.provide(layers)
  )

if (import.meta.main) {
  // A reader that has gone away ends the command in order: a run records where it stands.
  process.stdout.on("error", () => process.emit("SIGTERM", "SIGTERM"))
  NodeRuntime.runMain(main(process.argv.slice(2)), {
    disableErrorReporting: true,
    teardown: (exit) => {
      const code = Exit.isSuccess(exit) ? Number(exit.value) : report(exit.cause).code
      process.stdout.write("", () => process.exit(code))
    }
  })
}
