/** `exp schema`: the JSON Schema of experiment files with the parameters of every pipeline of the project, for editors. */
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { Code, CommandFailed } from "./failure.ts"
import { projectRoot } from "./root.ts"

export const schema = Command.make(
  "schema",
  {},
  Effect.fn("exp.schema")(function* () {
    const { projectPipelines, schemaText } = yield* Effect.promise(() => import("../dsl/schema.ts"))
    const root = yield* projectRoot(process.cwd())
    const pipelines = yield* Effect.tryPromise({
      try: () => projectPipelines(root),
      catch: (error) =>
        new CommandFailed({ code: Code.invalid, message: error instanceof Error ? error.message : String(error) })
    })
    yield* Console.log(schemaText(pipelines).trimEnd())
  })
).pipe(Command.withDescription("Print the JSON Schema of experiment files (also committed as experiments/schema.json)"))
