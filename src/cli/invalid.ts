/** An invalid experiment or executor file as scripts and people are told: every problem at once, exit 3. */
import { Console, Effect } from "effect"
import type { InvalidExecutor, InvalidExperiment } from "../dsl/problems.ts"
import { Code, silently } from "./failure.ts"

/** `{"errors": [...]}` on stdout, or one line a problem on stderr. */
export const reported =
  (json: boolean) =>
  (invalid: InvalidExperiment | InvalidExecutor): Effect.Effect<never, ReturnType<typeof silently>> => {
    const n = invalid.errors.length
    const text = json
      ? Console.log(JSON.stringify({ errors: invalid.errors }))
      : Console.error(`${invalid.message}\n\n${n === 1 ? "One error" : `${n} errors`}; nothing was created.`)
    return Effect.andThen(text, silently(Code.invalid))
  }
