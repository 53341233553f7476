/** `exp bench`: the engine's own works on this machine, beside the rate of its own matrix product. */
import { Console, Effect } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { cardsHere, executing, under } from "./executor.ts"
import { usage } from "./failure.ts"
import { bytes, number } from "./format.ts"
import { json } from "./root.ts"

const names = ["train17m", "decode135m", "tinyTrain", "tinyDecode"] as const

export const bench = Command.make(
  "bench",
  {
    works: Argument.Literals("WORK", names).pipe(
      Argument.withDescription("Which; all of them where none is named"),
      Argument.variadic()
    ),
    threads: Flag.Int("threads").pipe(
      Flag.withDescription("Threads of the CPU, as `compute.threads` of an experiment"),
      Flag.withMetavar("N"),
      Flag.withDefault(2)
    ),
    json
  },
  Effect.fn("exp.bench")(function* ({ works, threads, json }) {
    if (threads < 1) return yield* usage(`--threads ${threads}: something must compute`)
    const { environment, provider } = yield* executing(process.cwd(), json)
    const [{ benchmark }, { table }] = yield* Effect.promise(() =>
      Promise.all([import("../../bench/engine.ts"), import("../report/table.ts")])
    )
    const measuring = Effect.forEach(works.length === 0 ? names : works, (work) =>
      Console.error(`timing ${work} ...`).pipe(Effect.andThen(benchmark(work, { provider, threads })))
    )
    // one device is timed, whatever shares a task
    const measured = yield* under(environment)(Effect.andThen(cardsHere({ provider, mesh: undefined }), measuring))
    const report = { works: measured }
    if (json) return yield* Console.log(JSON.stringify(report))
    const columns = ["work", "provider", "tokens/s", "GFLOP/s", "matmul GFLOP/s", "run share", "peak memory"].map(
      (name, c) => ({ name, align: c < 2 ? ("left" as const) : ("right" as const) })
    )
    const rows = report.works.map((w) => [
      w.work,
      w.provider,
      number(w.tokensPerSecond),
      number(w.gflops),
      number(w.matmulGflops),
      `${(100 * w.runShare).toFixed(0)} %`,
      bytes(w.peakBytes)
    ])
    yield* Console.log(table(columns, rows))
  })
).pipe(Command.withDescription("Time the engine on this machine"))
