/** `exp export tensorboard DIR`: step metrics as TensorBoard's event files, one run for each node of each cell. */
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { Console, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { usage } from "./failure.ts"
import { typedIn, warehouseDir } from "./root.ts"

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** One row for each run: a node of a cell, with all its numbers. */
const runs = (experiment: string | undefined): string => `
  select t.cell_id || '/' || t.node as run, epoch(min(a.began)) as "wallTime",
    list({'tag': m.name, 'step': m.step, 'value': m.value} order by m.step, m.name) as scalars
  from cells c join cell_tasks t using (cell_id) join metrics m using (task_key)
    left join (select task_key, min(started_at) as began from attempts group by task_key) a using (task_key)
  ${experiment === undefined ? "" : `where c.experiment = ${quoted(experiment)}`}
  group by run order by run`

/** What every file system takes as names of folders. */
const folder = (run: string): string => run.replaceAll(/[^A-Za-z0-9._+=,/-]+/g, "_")

const tensorboard = Command.make(
  "tensorboard",
  {
    dir: Argument.String("DIR").pipe(Argument.withDescription("The folder that `tensorboard --logdir` is given")),
    experiment: Flag.String("experiment").pipe(
      Flag.withDescription("One experiment; all where it is left out"),
      Flag.optional
    )
  },
  Effect.fn("exp.export.tensorboard")(function* ({ dir, experiment }) {
    const [{ rows }, { eventFile }] = yield* Effect.promise(() =>
      Promise.all([import("../warehouse/sql.ts"), import("../report/events.ts")])
    )
    const found = yield* rows(yield* warehouseDir(), runs(Option.getOrUndefined(experiment)))
    if (found.length === 0) return yield* usage("there are no step metrics to export; `exp ls` lists what there is")
    const home = resolve(typedIn(), dir)
    for (const { run, wallTime, scalars } of found) {
      const time = Number(wallTime ?? 0)
      const path = join(home, folder(String(run)), `events.out.tfevents.${Math.floor(time)}.overtone`)
      const numbers = scalars as ReadonlyArray<{ tag: string; step: number; value: number | null }>
      yield* Effect.try({
        try: () => {
          mkdirSync(dirname(path), { recursive: true })
          writeFileSync(
            path,
            eventFile(
              numbers.map((one) => ({ ...one, value: one.value ?? Number.NaN })),
              time
            )
          )
        },
        catch: (cause) => usage(`cannot write ${path}: ${String(cause)}`)
      })
    }
    yield* Console.log(`${found.length} run${found.length === 1 ? "" : "s"} in ${home}`)
  })
).pipe(Command.withDescription("Write step metrics as TensorBoard's event files"))

export const exporting = Command.make("export").pipe(
  Command.withSubcommands([tensorboard]),
  Command.withDescription("Hand metrics to other tools")
)
