/**
 * What a plan asks of a warehouse, answered from files: realisations and artifacts by key, and what a cell's nodes were
 * bound to before, from the run journals, newest first. No database is opened, so a plan disturbs no run.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Option, Schema } from "effect"
import { readRealisation } from "../artifact/realisation.ts"
import { makeStore } from "../artifact/store.ts"
import type { NumericClass } from "../device/numericClass.ts"
import type { Json } from "../dsl/canonical.ts"
import type { Lookup, PreviousTask } from "../dsl/Planned.ts"
import { keptCode } from "./code.ts"
import { shorterRuns } from "./families.ts"
import { readJournal } from "./journal.ts"
import { runIds } from "./recovery.ts"

const json = Schema.Unknown as Schema.Codec<Json, unknown>
const numericClass = Schema.Unknown as Schema.Codec<NumericClass | null, unknown>

const RunLine = Schema.Struct({ t: Schema.Literal("run"), experiment: Schema.String })
const CellLine = Schema.Struct({
  t: Schema.Literal("cell"),
  cell: Schema.String,
  tasks: Schema.Array(
    Schema.Struct({ key: Schema.String, node: Schema.String, stage: Schema.String, ordinal: Schema.Int })
  )
})
const TaskLine = Schema.Struct({
  t: Schema.Literal("task"),
  key: Schema.String,
  stage: Schema.String,
  version: Schema.Int,
  params: json,
  inputs: Schema.Record(Schema.String, Schema.Struct({ task: Schema.String, output: Schema.String })),
  seed: Schema.NullOr(Schema.Int),
  class: numericClass
})
type TaskLine = typeof TaskLine.Type
const BindLine = Schema.Struct({ t: Schema.Literal("bind"), key: Schema.String, attempt: Schema.String })
const is = {
  run: Schema.is(RunLine),
  cell: Schema.is(CellLine),
  task: Schema.is(TaskLine),
  bind: Schema.is(BindLine)
}
const AskedFile = Schema.fromJsonString(Schema.Struct({ codeDigest: Schema.String }))
const decodeAsked = Schema.decodeUnknownOption(AskedFile)

/** One run as a plan remembers it. */
interface Remembered {
  readonly experiment: string
  readonly cells: ReadonlyMap<string, (typeof CellLine.Type)["tasks"]>
  readonly tasks: ReadonlyMap<string, TaskLine>
  /** Task key -> attempt. */
  readonly bound: ReadonlyMap<string, string>
}

const remember = (root: string, run: string, experiment: string): Remembered | undefined => {
  const path = join(root, "runs", `${run}.ndjson`)
  const values = readJournal(path).lines.map((line) => line.value)
  const head = values.find(is.run)
  if (head?.experiment !== experiment) return undefined
  return {
    experiment,
    cells: new Map(values.filter(is.cell).map(({ cell, tasks }) => [cell, tasks])),
    tasks: new Map(values.filter(is.task).map((task) => [task.key, task])),
    bound: new Map(values.filter(is.bind).map(({ key, attempt }) => [key, attempt]))
  }
}

/**
 * @param root the warehouse directory; it need not exist.
 * @param experiment whose runs are remembered (a cell belongs to one experiment).
 */
export const warehouseLookup = (root: string, experiment: string): Lookup => {
  const store = makeStore(root)
  const runs = [...runIds(root)].reverse()
  const remembered: Array<Remembered> = []
  let read = 0

  /** Runs of the experiment, newest first, each read when it is first needed. */
  const nth = (n: number): Remembered | undefined => {
    while (remembered.length <= n && read < runs.length) {
      const found = remember(root, runs[read++] ?? "", experiment)
      if (found !== undefined) remembered.push(found)
    }
    return remembered[n]
  }

  const describe = (of: Remembered, key: string): PreviousTask | undefined => {
    const line = of.tasks.get(key)
    if (line === undefined) return undefined
    const attempt = of.bound.get(key)
    const codeDigest = attempt === undefined ? null : digestOf(root, attempt)
    return {
      key,
      stage: line.stage,
      version: line.version,
      params: line.params,
      inputs: line.inputs,
      seed: line.seed,
      class: line.class,
      codeDigest,
      code: codeDigest === null ? null : keptCode(root, codeDigest),
      done: attempt !== undefined
    }
  }

  return {
    realisation: (contentKey, codeDigest) => readRealisation(root, contentKey, codeDigest),
    artifact: store.has,
    shorter: (family, codeDigest, steps) =>
      shorterRuns(root, family, codeDigest, steps).find(({ checkpoint }) => store.has(checkpoint))?.steps,
    previous: (cell, node, stage, ordinal) => {
      let newest: PreviousTask | undefined
      for (let n = 0; ; n++) {
        const of = nth(n)
        if (of === undefined) return newest
        const place = of.cells
          .get(cell)
          ?.find((task) => task.node === node && task.stage === stage && task.ordinal === ordinal)
        const previous = place === undefined ? undefined : describe(of, place.key)
        if (previous?.done) return previous
        newest ??= previous
      }
    }
  }
}

const digestOf = (root: string, attempt: string): string | null => {
  try {
    const asked = decodeAsked(readFileSync(join(root, "attempts", attempt, "task.json"), "utf8"))
    return Option.getOrNull(Option.map(asked, ({ codeDigest }) => codeDigest))
  } catch {
    return null
  }
}
