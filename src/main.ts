/** The `exp` command: commands and layers. Each command loads what it needs when it is called, so that the rest stays quick. */
import { fstatSync, writeSync } from "node:fs"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Exit, Layer } from "effect"
import { Command } from "effect/cli"
import manifest from "../package.json" with { type: "json" }
import { bench } from "./cli/bench.ts"
import { compare } from "./cli/compare.ts"
import { deviceCommand } from "./cli/device.ts"
import { doctor } from "./cli/doctor.ts"
import { exporting } from "./cli/export.ts"
import { Code, report } from "./cli/failure.ts"
import { init } from "./cli/init.ts"
import { ls } from "./cli/ls.ts"
import { plan } from "./cli/plan.ts"
import * as present from "./cli/present.ts"
import { rebuild } from "./cli/rebuild.ts"
import { root } from "./cli/root.ts"
import { run } from "./cli/run.ts"
import { schema } from "./cli/schema.ts"
import { show } from "./cli/show.ts"
import { sql } from "./cli/sql.ts"

export const exp = root.pipe(
  Command.withSubcommands([
    run,
    plan,
    ls,
    show,
    compare,
    sql,
    schema,
    exporting,
    init,
    deviceCommand,
    doctor,
    bench,
    rebuild
  ])
)

const layers = Layer.mergeAll(NodeServices.layer, present.layer)

/** A text that begins with a comment of SQL, as the ready-made queries do, is no flag: flags have no space after their dashes. */
const operand = (word: string): string => (/^--?\s/.test(word) ? ` ${word}` : word)

/** Runs a command line (without `node` and the script) to its exit code; says on stderr what went wrong. */
export const main = (argv: ReadonlyArray<string>): Effect.Effect<Code> =>
  Command.runWith(exp, { version: manifest.version, renderErrors: true })(argv.map(operand)).pipe(
    Effect.as<Code>(Code.ok),
    Effect.catchCause((cause) => {
      const { code, text } = report(cause)
      return Effect.as(text === "" ? Effect.void : Console.error(text), code)
    }),
    Effect.provide(layers)
  )

/** Writing to a file until all is there: Node's own leaves out, in silence, what a nearly full disk did not take at once. */
const whole =
  (fd: number) =>
  (chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void => {
    try {
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at)
      done()
    } catch (cause) {
      done(cause instanceof Error ? cause : new Error(String(cause)))
    }
  }

/** Runs the process's own command line and ends the process with its exit code. */
export const start = (): void => {
  // A reader that has gone away, or a full disk behind stdout, ends the command in order: a run records where it stands.
  let unwritten: NodeJS.ErrnoException | undefined
  for (const stream of [process.stdout, process.stderr]) {
    if (fstatSync(stream.fd).isFile()) stream._write = whole(stream.fd)
    stream.on("error", (error) => {
      if (unwritten === undefined) process.emit("SIGTERM", "SIGTERM")
      unwritten ??= error
    })
  }
  NodeRuntime.runMain(main(process.argv.slice(2)), {
    disableErrorReporting: true,
    teardown: (exit) => {
      const code = Exit.isSuccess(exit) ? Number(exit.value) : report(exit.cause).code
      const end = () => {
        // Who asked for less than there was is content; who lost what was asked for is told.
        const lost = unwritten !== undefined && unwritten.code !== "EPIPE"
        if (lost) console.error(`exp: not all could be written: ${unwritten?.message}`)
        process.exit(lost ? Code.internal : code)
      }
      // An error of the last write comes after its end.
      process.stdout.write("", () => setImmediate(end))
    }
  })
}

if (import.meta.main) start()
