/** `exp schema`: the JSON Schema of experiment files with the parameters of every pipeline of the project, or of executor files. */
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { Code, CommandFailed } from "./failure.ts"
import { projectRoot } from "./root.ts"

export const schema = Command.make(
  "schema",
  {
    of: Argument.Literals("OF", ["experiment", "executor"]).pipe(
      Argument.withDescription("Which files: experiments (default), or executors"),
      Argument.withDefault("experiment")
    )
  },
  Effect.fn("exp.schema")(function* ({ of }) {
    const { executorSchemaText, projectPipelines, schemaText } = yield* Effect.promise(() => import("../dsl/schema.ts"))
    if (of === "executor") return yield* Console.log(executorSchemaText().trimEnd())
    const root = yield* projectRoot(process.cwd())
    const pipelines = yield* Effect.tryPromise({
      try: () => projectPipelines(root),
      catch: (error) =>
        new CommandFailed({ code: Code.invalid, message: error instanceof Error ? error.message : String(error) })
    })
    yield* Console.log(schemaText(pipelines).trimEnd())
  })
).pipe(Command.withDescription("Print the JSON Schema of experiment files (also committed as experiments/schema.json)"))
