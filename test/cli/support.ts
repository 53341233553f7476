/** Command lines in process: their exit code and what they print where. */
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { main } from "../../src/main.ts"

export interface Said {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs a command line to its exit code and its text. */
export const exp = (...argv: ReadonlyArray<string>): Effect.Effect<Said> =>
  Effect.gen(function* () {
    const code = yield* main(argv)
    const lines = (all: ReadonlyArray<unknown>) => all.map((line) => `${line}\n`).join("")
    return { code, out: lines(yield* TestConsole.logLines), err: lines(yield* TestConsole.errorLines) }
  }).pipe(Effect.provide(TestConsole.layer))

/** The JSON of each line on stdout. */
export const json = (said: Said) =>
  said.out
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))
